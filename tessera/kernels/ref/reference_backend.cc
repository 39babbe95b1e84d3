// The oracle: every operation of Backend as a scalar loop in the order of its definition, sums in double.
// Integer layers run through format/reference.h. Slow, for tests.
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <functional>
#include <numbers>
#include <numeric>

#include "tessera/format/reference.h"
#include "tessera/kernels/backend.h"

namespace tessera {
namespace {

class HostBuffer : public Buffer {
 public:
  explicit HostBuffer(size_t bytes) : bytes_(bytes) {}
  void* data() override { return bytes_.data(); }
  size_t bytes() const override { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

/// Float rows; a quantized layer quantizes them itself, each time it reads them.
class FloatInput : public LinearInput {
 public:
  FloatInput(int64_t max_tokens, int64_t max_width) : values_(static_cast<size_t>(max_tokens * max_width)) {}
  /// The first m rows of `width` columns.
  std::span<float> rows(int64_t m, int64_t width) {
    assert(static_cast<size_t>(m * width) <= values_.size());
    return std::span(values_).first(static_cast<size_t>(m * width));
  }
  std::span<const float> rows(int64_t m, int64_t width) const {
    return std::span(values_).first(static_cast<size_t>(m * width));
  }

 private:
  std::vector<float> values_;
};

class ReferenceLinear : public Linear {
 public:
  /// y [m, n] = x [m, k_in] * W^T + bias.
  virtual void forward(std::span<const float> x, int64_t m, std::span<float> y) const = 0;
};

class FloatLinear : public ReferenceLinear {
 public:
  FloatLinear(const TensorView& weight, std::span<const float> bias)
      : weight_(weight), values_(to_floats(weight)), bias_(bias.begin(), bias.end()) {}

  int64_t n() const override { return weight_.shape[0]; }
  int64_t k_in() const override { return weight_.shape[1]; }
  KernelInfo info() const override {
    return {fmt::format("f32 x {}", tessera::name_of(weight_.dtype)), "scalar",
            static_cast<int>(8 * size_of(weight_.dtype)), 32};
  }
  std::span<const float> row(int64_t i) const {
    return std::span(values_).subspan(static_cast<size_t>(i * k_in()), static_cast<size_t>(k_in()));
  }

  void forward(std::span<const float> x, int64_t m, std::span<float> y) const override {
    const size_t outputs = static_cast<size_t>(n()), inputs = static_cast<size_t>(k_in());
    for (size_t t = 0; t < static_cast<size_t>(m); ++t) {
      for (size_t j = 0; j < outputs; ++j) {
        double sum = bias_.empty() ? 0.0 : double{bias_[j]};
        const std::span<const float> w = row(static_cast<int64_t>(j));
        for (size_t k = 0; k < inputs; ++k) sum += double{x[t * inputs + k]} * double{w[k]};
        y[t * outputs + j] = static_cast<float>(sum);
      }
    }
  }

 private:
  TensorView weight_;
  std::vector<float> values_, bias_;
};

class IntegerLinear : public ReferenceLinear {
 public:
  explicit IntegerLinear(const QuantizedLinear& linear) : linear_(linear.clone()) {}

  int64_t n() const override { return linear_.n; }
  int64_t k_in() const override { return linear_.k_in(); }
  KernelInfo info() const override {
    return {describe(linear_), "scalar", weight_bits(linear_.weight_format), linear_.activation.bits};
  }
  void forward(std::span<const float> x, int64_t m, std::span<float> y) const override {
    reference_forward(linear_, x, m, y);
  }

 private:
  QuantizedLinear linear_;
};

float activate(float x, GluActivation activation) {
  switch (activation) {
    case GluActivation::kSilu:
      return static_cast<float>(x / (1.0 + std::exp(-double{x})));
    case GluActivation::kRelu:
      return std::max(x, 0.0f);
    case GluActivation::kGelu:
      return static_cast<float>(0.5 * x * (1.0 + std::erf(double{x} * std::sqrt(0.5))));
    case GluActivation::kGeluTanh: {
      const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return static_cast<float>(0.5 * x * (1.0 + std::tanh(inner)));
    }
  }
  return x;
}

/// y may be x.
void normalize_row(std::span<const float> x, const NormWeights& weights, std::span<float> y) {
  const double width = static_cast<double>(x.size());
  const float *gain = weights.gain->floats(), *bias = weights.bias ? weights.bias->floats() : nullptr;
  double mean = 0, square = 0;
  if (weights.layer_norm) {
    for (float v : x) mean += v / width;
  }
  for (float v : x) square += (v - mean) * (v - mean) / width;
  const double inverse = 1.0 / std::sqrt(square + double{weights.eps});
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = static_cast<float>((x[i] - mean) * inverse * gain[i] + (bias ? bias[i] : 0.0f));
  }
}

/// One head of one token: pairs (i, i + half) turn by the angle of the token's position.
void rotate(float* head, int64_t half, const float* cosines, const float* sines) {
  for (int64_t i = 0; i < half; ++i) {
    const double a = head[i], b = head[i + half];
    head[i] = static_cast<float>(a * cosines[i] - b * sines[i]);
    head[i + half] = static_cast<float>(b * cosines[i] + a * sines[i]);
  }
}

/// Keys or values of one layer as rows of head_dim floats: head * capacity + position.
class CacheRows {
 public:
  CacheRows(const KvCache& cache, const std::vector<std::unique_ptr<Buffer>>& rows,
            const std::vector<std::unique_ptr<Buffer>>& scales, int64_t layer)
      : format_(cache.format),
        d_(static_cast<size_t>(cache.head_dim)),
        rows_(rows[static_cast<size_t>(layer)]->data()),
        scales_(scales.empty() ? nullptr
                               : static_cast<KvScale*>(scales[static_cast<size_t>(layer)]->data())) {}

  void store(int64_t row, std::span<const float> x) const {
    const auto first = static_cast<size_t>(row) * d_;
    for (size_t i = 0; i < d_ && !scales_; ++i) {
      if (format_ == KvFormat::kF16) {
        static_cast<Half*>(rows_)[first + i] = to_half(x[i]);
      } else {
        static_cast<float*>(rows_)[first + i] = x[i];
      }
    }
    if (scales_) scales_[row] = quantize_kv(x, format_, bytes(row));
  }
  std::vector<float> load(int64_t row) const {
    const auto first = static_cast<size_t>(row) * d_;
    std::vector<float> x(d_);
    for (size_t i = 0; i < d_ && !scales_; ++i) {
      x[i] = format_ == KvFormat::kF16 ? to_float(static_cast<const Half*>(rows_)[first + i])
                                       : static_cast<const float*>(rows_)[first + i];
    }
    if (scales_) dequantize_kv(bytes(row), format_, scales_[row], x);
    return x;
  }

 private:
  std::span<uint8_t> bytes(int64_t row) const {
    const auto size = static_cast<size_t>(kv_row_bytes(format_, static_cast<int64_t>(d_)));
    return {static_cast<uint8_t*>(rows_) + static_cast<size_t>(row) * size, size};
  }

  KvFormat format_;
  size_t d_;
  void* rows_;
  KvScale* scales_;
};

CacheRows keys_of(const KvCache& cache, int64_t layer) {
  return {cache, cache.keys, cache.key_scales, layer};
}
CacheRows values_of(const KvCache& cache, int64_t layer) {
  return {cache, cache.values, cache.value_scales, layer};
}

/// One query head [head_dim] of the token at end - 1 over the positions [begin, end) of `kv_head`.
void attend(std::span<const float> q, const KvCache& cache, int64_t layer, int64_t kv_head, int64_t begin,
            int64_t end, float alibi_slope, std::span<float> out) {
  const CacheRows keys = keys_of(cache, layer), values = values_of(cache, layer);
  std::vector<double> weights, sums(q.size());
  for (int64_t p = begin; p < end; ++p) {
    const std::vector<float> key = keys.load(kv_head * cache.capacity + p);
    const double score = std::inner_product(q.begin(), q.end(), key.begin(), 0.0, std::plus<>(),
                                            [](double a, double b) { return a * b; });
    weights.push_back(score / std::sqrt(static_cast<double>(q.size())) +
                      double{alibi_slope} * static_cast<double>(p - (end - 1)));
  }
  const double highest = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& w : weights) total += w = std::exp(w - highest);
  for (int64_t p = begin; p < end; ++p) {
    const std::vector<float> value = values.load(kv_head * cache.capacity + p);
    const double weight = weights[static_cast<size_t>(p - begin)] / total;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += weight * value[i];
  }
  std::transform(sums.begin(), sums.end(), out.begin(), [](double sum) { return static_cast<float>(sum); });
}

class ReferenceBackend : public Backend {
 public:
  std::string name() const override { return "reference scalar"; }

  std::unique_ptr<Buffer> allocate(size_t bytes) override { return std::make_unique<HostBuffer>(bytes); }
  void upload(Buffer& to, std::span<const std::byte> from) override {
    assert(from.size() <= to.bytes());
    std::memcpy(to.data(), from.data(), from.size());
  }
  void download(const float* from, std::span<float> to) override { std::copy_n(from, to.size(), to.data()); }

  std::unique_ptr<Linear> load(const QuantizedLinear& linear) override {
    return std::make_unique<IntegerLinear>(linear);
  }
  std::unique_ptr<Linear> load(const TensorView& weight, std::span<const float> bias) override {
    return std::make_unique<FloatLinear>(weight, bias);
  }
  std::unique_ptr<LinearInput> make_input(int64_t max_tokens, int64_t max_width) override {
    return std::make_unique<FloatInput>(max_tokens, max_width);
  }

  void embed(const Linear& table, std::span<const int32_t> ids, float* out) override {
    for (int32_t id : ids) {
      const auto row = static_cast<const FloatLinear&>(table).row(id);
      out = std::copy(row.begin(), row.end(), out);
    }
  }

  void norm(const float* x, int64_t m, const NormWeights& weights, const Linear& reader,
            LinearInput& out) override {
    const auto width = static_cast<size_t>(reader.k_in());
    const std::span<float> rows = static_cast<FloatInput&>(out).rows(m, reader.k_in());
    for (size_t t = 0; t < static_cast<size_t>(m); ++t) {
      normalize_row({x + t * width, width}, weights, rows.subspan(t * width, width));
    }
  }

  void normalize(float* x, int64_t rows, int64_t width, const NormWeights& weights) override {
    for (int64_t r = 0; r < rows; ++r) {
      const std::span<float> row(x + r * width, static_cast<size_t>(width));
      normalize_row(row, weights, row);
    }
  }

  void prepare(const float* x, int64_t m, const Linear& reader, LinearInput& out) override {
    const std::span<float> rows = static_cast<FloatInput&>(out).rows(m, reader.k_in());
    std::copy_n(x, rows.size(), rows.data());
  }

  void glu(const float* gate, const float* up, int64_t m, GluActivation activation, const Linear& reader,
           LinearInput& out) override {
    const std::span<float> rows = static_cast<FloatInput&>(out).rows(m, reader.k_in());
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = gate ? activate(gate[i], activation) * up[i] : activate(up[i], activation);
    }
  }

  void linear(const Linear& weights, const LinearInput& input, int64_t m, float* y,
              bool accumulate) override {
    const std::span<const float> x = static_cast<const FloatInput&>(input).rows(m, weights.k_in());
    std::vector<float> product(static_cast<size_t>(m * weights.n()));
    static_cast<const ReferenceLinear&>(weights).forward(x, m, product);
    if (accumulate) {
      add(product.data(), static_cast<int64_t>(product.size()), y);
    } else {
      std::copy(product.begin(), product.end(), y);
    }
  }

  void rope(float* q, float* k, int64_t m, int64_t first, int64_t n_heads, int64_t n_kv_heads,
            int64_t head_dim, const RopeTable& table) override {
    const int64_t half = head_dim / 2;
    for (int64_t t = 0; t < m; ++t) {
      const float* cosines = table.cos->floats() + (first + t) * half;
      const float* sines = table.sin->floats() + (first + t) * half;
      for (int64_t h = 0; h < n_heads; ++h) rotate(q + (t * n_heads + h) * head_dim, half, cosines, sines);
      for (int64_t h = 0; h < n_kv_heads; ++h) {
        rotate(k + (t * n_kv_heads + h) * head_dim, half, cosines, sines);
      }
    }
  }

  void append(KvCache& cache, int64_t layer, const float* k, const float* v, int64_t m) override {
    const CacheRows keys = keys_of(cache, layer), values = values_of(cache, layer);
    const auto d = static_cast<size_t>(cache.head_dim);
    for (int64_t t = 0; t < m; ++t) {
      for (int64_t h = 0; h < cache.n_kv_heads; ++h) {
        const size_t from = static_cast<size_t>(t * cache.n_kv_heads + h) * d;
        const int64_t to = h * cache.capacity + cache.length + t;
        keys.store(to, {k + from, d});
        values.store(to, {v + from, d});
      }
    }
  }

  void attention(const float* q, const KvCache& cache, int64_t layer, int64_t m, int64_t n_heads,
                 const AttentionRule& rule, float* out) override {
    const auto d = static_cast<size_t>(cache.head_dim);
    for (int64_t t = 0; t < m; ++t) {
      const int64_t end = cache.length + t + 1;
      const int64_t begin = rule.window > 0 ? std::max<int64_t>(0, end - rule.window) : 0;
      for (int64_t h = 0; h < n_heads; ++h) {
        const size_t row = static_cast<size_t>(t * n_heads + h) * d;
        attend({q + row, d}, cache, layer, h / (n_heads / cache.n_kv_heads), begin, end,
               rule.alibi_slopes ? rule.alibi_slopes[h] : 0.0f, {out + row, d});
      }
    }
  }

  void add(const float* x, int64_t count, float* y) override {
    for (int64_t i = 0; i < count; ++i) y[i] += x[i];
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() {
  return std::make_unique<ReferenceBackend>();
}

}  // namespace tessera
