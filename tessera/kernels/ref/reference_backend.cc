// The oracle: every operation of Backend as a scalar loop in the order of its definition, sums in double.
// Integer layers run through format/reference.h. Slow, for tests.
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <numbers>

#include "tessera/format/joined_linear.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/ref/reference_attention.h"
#include "tessera/kernels/ref/reference_backend.h"
#include "tessera/kernels/ref/reference_input.h"

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

/// A quantized layer quantizes its rows itself, each time it reads them.
class FloatFormat : public InputFormat {
 public:
  explicit FloatFormat(int64_t width) : width_(width) {}
  int64_t width() const override { return width_; }

 private:
  int64_t width_;
};

struct ReferenceBatch : DeviceBatch {
  Batch batch;
  int64_t rows() const override { return batch.rows(); }
};

const Batch& host(const DeviceBatch& batch) {
  return static_cast<const ReferenceBatch&>(batch).batch;
}

class ReferenceLinear : public Linear {
 public:
  /// y [m, n] = x [m, k_in] * W^T + bias.
  virtual void forward(std::span<const float> x, int64_t m, std::span<float> y) const = 0;
};

class FloatLinear : public ReferenceLinear {
 public:
  explicit FloatLinear(std::span<const FloatWeight> parts) : dtype_(parts[0].weight.dtype) {
    for (const auto& [weight, bias] : parts) {
      k_ = weight.shape[1];
      const std::vector<float> values = to_floats(weight);
      values_.insert(values_.end(), values.begin(), values.end());
      bias_.insert(bias_.end(), bias.begin(), bias.end());
      bias_.resize(static_cast<size_t>(n()));
    }
  }

  int64_t n() const override { return static_cast<int64_t>(values_.size()) / k_; }
  int64_t k_in() const override { return k_; }
  KernelInfo info() const override {
    return {fmt::format("f32 x {}", tessera::name_of(dtype_)), "scalar",
            static_cast<int>(8 * size_of(dtype_)), 32};
  }
  std::span<const float> row(int64_t i) const {
    return std::span(values_).subspan(static_cast<size_t>(i * k_), static_cast<size_t>(k_));
  }

  void forward(std::span<const float> x, int64_t m, std::span<float> y) const override {
    const size_t outputs = static_cast<size_t>(n()), inputs = static_cast<size_t>(k_);
    for (size_t t = 0; t < static_cast<size_t>(m); ++t) {
      for (size_t j = 0; j < outputs; ++j) {
        double sum = bias_[j];
        const std::span<const float> w = row(static_cast<int64_t>(j));
        for (size_t k = 0; k < inputs; ++k) sum += double{x[t * inputs + k]} * double{w[k]};
        y[t * outputs + j] = static_cast<float>(sum);
      }
    }
  }

 private:
  DType dtype_;
  int64_t k_ = 0;
  std::vector<float> values_, bias_;
};

class IntegerLinear : public ReferenceLinear {
 public:
  explicit IntegerLinear(QuantizedLinear linear) : linear_(std::move(linear)) {}

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

/// Row t of `rows`.
std::span<float> row_of(const Rows& rows, int64_t t) {
  return {rows.floats(t), static_cast<size_t>(rows.width)};
}

void add_row(std::span<const float> x, std::span<float> y) {
  for (size_t i = 0; i < y.size(); ++i) y[i] += x[i];
}

class ReferenceBackend : public Backend {
 public:
  std::string name() const override { return "reference scalar"; }

  std::unique_ptr<Buffer> allocate(size_t bytes) override { return std::make_unique<HostBuffer>(bytes); }
  void upload(std::span<const std::byte> from, Buffer& to) override {
    assert(from.size() <= to.bytes());
    std::memcpy(to.data(), from.data(), from.size());
  }
  RowBuffer make_rows(RowUse, int64_t count, int64_t width) override {
    auto memory = allocate(static_cast<size_t>(count * width) * sizeof(float));
    const Rows rows{memory->data(), DType::kF32, count, width, width};
    return {std::move(memory), rows};
  }
  void download(const Rows& from, std::span<float> to) override {
    for (int64_t t = 0; t < from.count; ++t) {
      std::ranges::copy(row_of(from, t), &to[static_cast<size_t>(t * from.width)]);
    }
  }

  std::unique_ptr<InputFormat> float_input(int64_t width) override {
    return std::make_unique<FloatFormat>(width);
  }
  std::unique_ptr<InputFormat> input_of(const QuantizedLinear& linear) override {
    return std::make_unique<FloatFormat>(linear.k_in());
  }
  std::unique_ptr<Linear> load(std::span<const QuantizedLinear* const> parts, const InputFormat&) override {
    return std::make_unique<IntegerLinear>(join_outputs(parts));
  }
  std::unique_ptr<Linear> load(std::span<const FloatWeight> parts, SumOrder) override {
    return std::make_unique<FloatLinear>(parts);
  }
  std::unique_ptr<LinearInput> make_input(int64_t max_rows, int64_t max_width) override {
    return std::make_unique<ReferenceInput>(max_rows, max_width);
  }
  std::unique_ptr<KvPool> make_kv_pool(const KvShape& shape, int64_t pages) override {
    return std::make_unique<HostKvPool>(shape, pages);
  }
  std::unique_ptr<DeviceBatch> make_batch() override { return std::make_unique<ReferenceBatch>(); }
  void upload(const Batch& from, DeviceBatch& to) override { static_cast<ReferenceBatch&>(to).batch = from; }

  void embed(const EmbeddingTables& tables, const DeviceBatch& batch, const Rows& h) override {
    for (int64_t t = 0; t < host(batch).rows(); ++t) {
      const std::span<float> row = row_of(h, t);
      const auto i = static_cast<size_t>(t);
      std::ranges::copy(static_cast<const FloatLinear&>(*tables.tokens).row(host(batch).ids[i]), row.begin());
      if (tables.norm) normalize_row(row, *tables.norm, row);
      if (!tables.positions) continue;
      const int64_t place = host(batch).positions[i] + tables.position_offset;
      add_row(static_cast<const FloatLinear&>(*tables.positions).row(place), row);
    }
  }

  void add(const Rows& delta, const Rows& h) override {
    for (int64_t t = 0; t < h.count; ++t) add_row(row_of(delta, t), row_of(h, t));
  }

  void add_norm(const Rows& h, const Rows* delta, const NormWeights& weights, const InputFormat& format,
                LinearInput& out) override {
    if (delta) add(*delta, h);
    produce(h.count, format, out,
            [&](int64_t t, std::span<float> row) { normalize_row(row_of(h, t), weights, row); });
  }

  void norm_wanted(const Rows& h, const Rows* delta, const DeviceBatch& batch, int64_t first, int64_t count,
                   const NormWeights& weights, const InputFormat& format, LinearInput& out) override {
    produce(count, format, out, [&](int64_t i, std::span<float> row) {
      const int32_t t = host(batch).logit_rows[static_cast<size_t>(first + i)];
      std::ranges::copy(row_of(h, t), row.begin());
      if (delta) add_row(row_of(*delta, t), row);
      normalize_row(row, weights, row);
    });
  }

  void prepare(const Rows& x, const InputFormat& format, LinearInput& out) override {
    produce(x.count, format, out,
            [&](int64_t t, std::span<float> row) { std::ranges::copy(row_of(x, t), row.begin()); });
  }

  void linear(const Linear& weights, const LinearInput& input, const Rows& out, bool accumulate) override {
    const std::span<const float> x = static_cast<const ReferenceInput&>(input).rows(out.count);
    const auto n = static_cast<size_t>(weights.n());
    std::vector<float> product(static_cast<size_t>(out.count) * n);
    static_cast<const ReferenceLinear&>(weights).forward(x, out.count, product);
    for (int64_t t = 0; t < out.count; ++t) {
      const auto row = std::span(product).subspan(static_cast<size_t>(t) * n, n);
      if (accumulate) {
        add_row(row, row_of(out, t));
      } else {
        std::ranges::copy(row, out.floats(t));
      }
    }
  }

  void append(const Rows& q, const Rows& k, const Rows& v, const HeadRule& rule, const DeviceBatch& batch,
              int64_t layer, KvPool& kv_pool) override {
    auto& pool = static_cast<HostKvPool&>(kv_pool);
    const auto d = static_cast<size_t>(pool.shape().head_dim);
    const Batch& b = host(batch);
    for (int64_t t = 0; t < b.rows(); ++t) {
      const int64_t position = b.positions[static_cast<size_t>(t)];
      const auto prepare = [&](std::span<float> heads, const NormWeights* norm) {
        for (size_t first = 0; first < heads.size(); first += d) {
          const auto head = heads.subspan(first, d);
          if (norm) normalize_row(head, *norm, head);
          if (!rule.rope) continue;
          const int64_t half = pool.shape().head_dim / 2;
          rotate(head.data(), half, rule.rope->cos->floats() + position * half,
                 rule.rope->sin->floats() + position * half);
        }
      };
      prepare(row_of(q, t), rule.query_norm);
      prepare(row_of(k, t), rule.key_norm);
      for (int64_t h = 0; h < pool.shape().n_kv_heads; ++h) {
        const ReferenceSlot slot(pool, b.pages_of(b.sequence[static_cast<size_t>(t)]), layer, h, position);
        const auto first = static_cast<size_t>(h) * d;
        slot.store(row_of(k, t).subspan(first, d), row_of(v, t).subspan(first, d));
      }
    }
  }

  void attention(const Rows& q, const DeviceBatch& batch, int64_t layer, const KvPool& kv_pool,
                 const AttentionRule& rule, const InputFormat& format, LinearInput& out) override {
    const auto& pool = static_cast<const HostKvPool&>(kv_pool);
    const int64_t d = pool.shape().head_dim, n_heads = q.width / d,
                  shared = n_heads / pool.shape().n_kv_heads;
    const Batch& b = host(batch);
    produce(q.count, format, out, [&](int64_t t, std::span<float> row) {
      const int64_t end = b.positions[static_cast<size_t>(t)] + 1;
      const int64_t begin = rule.window > 0 ? std::max<int64_t>(0, end - rule.window) : 0;
      for (int64_t h = 0; h < n_heads; ++h) {
        const auto first = static_cast<size_t>(h * d), count = static_cast<size_t>(d);
        reference_attention(row_of(q, t).subspan(first, count), pool,
                            b.pages_of(b.sequence[static_cast<size_t>(t)]), layer, h / shared, begin, end,
                            rule.alibi_slopes ? rule.alibi_slopes[h] : 0.0f, row.subspan(first, count));
      }
    });
  }

  void glu(const Rows* gate, const Rows& up, GluActivation activation, const InputFormat& format,
           LinearInput& out) override {
    produce(up.count, format, out, [&](int64_t t, std::span<float> row) {
      for (size_t i = 0; i < row.size(); ++i) {
        const float u = up.floats(t)[i];
        row[i] = gate ? activate(gate->floats(t)[i], activation) * u : activate(u, activation);
      }
    });
  }

  void sample(const Rows& logits, std::span<const Draw> draws, std::span<int32_t> ids) override {
    for (size_t i = 0; i < draws.size(); ++i) {
      ids[i] = sample_token(row_of(logits, static_cast<int64_t>(i)), draws[i]);
    }
  }

 private:
  /// Fills `out` with m rows, make_row(t, row).
  template <class MakeRow>
  static void produce(int64_t m, const InputFormat& format, LinearInput& out, const MakeRow& make_row) {
    const auto width = static_cast<size_t>(format.width());
    const std::span<float> rows = static_cast<ReferenceInput&>(out).reserve(m, format);
    for (int64_t t = 0; t < m; ++t) make_row(t, rows.subspan(static_cast<size_t>(t) * width, width));
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() {
  return std::make_unique<ReferenceBackend>();
}

}  // namespace tessera
