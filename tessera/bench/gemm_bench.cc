// Benchmark of linear layers.
#include "tessera/bench/gemm_bench.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/base/stopwatch.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/cpu/packed_weights.h"
#include "tessera/kernels/single_linear.h"

namespace tessera {
namespace {

struct FormatEntry {
  GemmFormat format;
  std::string_view name;
  LayerOptions layer = {};         ///< of the formats that are no floats; n and k are the shape's
  int64_t inputs_per_outlier = 0;  ///< 0: no outliers
};

constexpr WeightFormat kGrouped = WeightFormat::kUint4Grouped;
const FormatEntry kFormats[] = {
    {GemmFormat::kF32, "f32"},
    {GemmFormat::kBf16, "bf16"},
    {GemmFormat::kW8A8, "w8a8", {.format = WeightFormat::kInt8}},
    {GemmFormat::kW4A8, "w4a8"},
    {GemmFormat::kW4A8Group128, "w4a8-g128", {.format = kGrouped, .group_size = 128}},
    {GemmFormat::kW4A8Group128Zeros,
     "w4a8-g128-zeros",
     {.format = kGrouped, .group_size = 128, .group_zeros = true}},
    {GemmFormat::kW4A4Outliers, "w4a4-outliers", {.activation = {.bits = 4, .symmetric = false}}, 16},
    {GemmFormat::kW4A16, "w4a16", {.activation = {.bits = 16}}},
    {GemmFormat::kW4A16Group128Zeros,
     "w4a16-g128-zeros",
     {.format = kGrouped, .group_size = 128, .activation = {.bits = 16}, .group_zeros = true}}};

const FormatEntry& entry_of(GemmFormat format) {
  return *std::ranges::find(kFormats, format, &FormatEntry::format);
}

}  // namespace

bool is_float(GemmFormat format) {
  return format == GemmFormat::kF32 || format == GemmFormat::kBf16;
}

QuantizedLinear random_layer(GemmFormat format, int64_t n, int64_t k_in, unsigned seed) {
  const FormatEntry& entry = entry_of(format);
  LayerOptions options = entry.layer;
  options.outliers = entry.inputs_per_outlier > 0 ? k_in / entry.inputs_per_outlier : 0;
  options.n = n;
  options.k = k_in - options.outliers;
  if (options.group_size > 0 && options.k % options.group_size != 0) {
    throw Error("{}: K = {} is no multiple of the group size {}", entry.name, options.k, options.group_size);
  }
  return random_layer(options, seed);
}

namespace {

/// Layers of the CPU backend.
class BackendCandidate : public GemmCandidate {
 public:
  BackendCandidate(CpuIsa isa, GemmFormat format, int64_t n, int64_t k, size_t rotation_bytes)
      : backend_(make_cpu_backend(isa)), rotation_bytes_(rotation_bytes) {
    if (is_float(format)) {
      load_float(format == GemmFormat::kF32 ? DType::kF32 : DType::kBF16, n, k);
    } else {
      load_integer(format, n, k);
    }
  }
  KernelInfo info() const override { return layers_[0]->linear().info(); }
  double weight_bytes() const override { return bytes_; }
  void run(const float* x, int64_t m, float* y) override {
    const SingleLinear& layer = *layers_[next_++ % layers_.size()];
    if (m > room_) {
      input_ = layer.make_input(m);
      room_ = m;
    }
    layer.run(host_rows(x, m, layer.linear().k_in()), *input_, host_rows(y, m, layer.linear().n()));
  }

 private:
  void load_float(DType dtype, int64_t n, int64_t k) {
    bytes_ = static_cast<double>(n * k) * static_cast<double>(size_of(dtype));
    const int64_t copies = rotating_copies(bytes_, rotation_bytes_);
    weights_ = random_float_weights(dtype, copies, n, k);
    for (int64_t i = 0; i < copies; ++i) {
      const TensorView view{dtype, {n, k}, weights_.data() + i * static_cast<int64_t>(bytes_)};
      layers_.push_back(std::make_unique<SingleLinear>(*backend_, FloatWeight{view}));
    }
  }

  void load_integer(GemmFormat format, int64_t n, int64_t k) {
    const QuantizedLinear layer = random_layer(format, n, k, 2);
    bytes_ = static_cast<double>(layer.bytes());
    for (int64_t i = 0; i < rotating_copies(bytes_, rotation_bytes_); ++i) {
      layers_.push_back(std::make_unique<SingleLinear>(*backend_, layer));
    }
  }

  std::unique_ptr<Backend> backend_;
  size_t rotation_bytes_;
  Tensor weights_;
  std::vector<std::unique_ptr<SingleLinear>> layers_;
  /// For room_ rows of any layer, as in a model: pages of fresh memory cost as much as a product.
  std::unique_ptr<LinearInput> input_;
  int64_t room_ = 0;
  double bytes_ = 0;
  size_t next_ = 0;
};

/// Seconds of each run, sorted.
std::vector<double> time_runs(GemmCandidate& candidate, const GemmShape& shape, double seconds) {
  std::vector<float> x(static_cast<size_t>(shape.m * shape.k)), y(static_cast<size_t>(shape.m * shape.n));
  std::minstd_rand rng(3);
  for (float& v : x) v = static_cast<float>(rng() % 2001) * 1e-3f - 1.0f;
  candidate.run(x.data(), shape.m, y.data());  // first touch of scratch and threads
  std::vector<double> times;
  for (double total = 0; total < seconds || times.size() < 5;) {
    const Stopwatch watch;
    candidate.run(x.data(), shape.m, y.data());
    times.push_back(watch.seconds());
    total += times.back();
  }
  std::sort(times.begin(), times.end());
  return times;
}

}  // namespace

GemmShape gemm_shape_from_text(const std::string& text) {
  GemmShape s;
  int used = 0;
  const int fields = std::sscanf(text.c_str(), "%ldx%ldx%ld%n", &s.m, &s.n, &s.k, &used);
  if (fields != 3 || static_cast<size_t>(used) != text.size() || s.m < 1 || s.n < 1 || s.k < 1) {
    throw Error("shape '{}' is not of the form MxNxK, such as 128x4096x11008", text);
  }
  return s;
}

std::string_view name_of(GemmFormat format) {
  return entry_of(format).name;
}

GemmFormat gemm_format_from_name(std::string_view name) {
  std::vector<std::string_view> known;
  for (const FormatEntry& e : kFormats) {
    if (e.name == name) return e.format;
    known.push_back(e.name);
  }
  throw Error("there is no format '{}'; {} exist", name, fmt::join(known, ", "));
}

std::vector<GemmFormat> all_gemm_formats() {
  std::vector<GemmFormat> formats;
  for (const FormatEntry& e : kFormats) formats.push_back(e.format);
  return formats;
}

std::vector<GemmShape> default_gemm_shapes() {
  std::vector<GemmShape> shapes;
  for (auto [n, k] : {std::pair<int64_t, int64_t>{4096, 4096},
                      {11008, 4096},
                      {4096, 11008},
                      {5632, 2048},
                      {512, 512},
                      {1408, 512}}) {
    for (int64_t m : {1, 4, 16, 128, 512}) shapes.push_back({m, n, k});
  }
  return shapes;
}

int64_t rotating_copies(double bytes, size_t rotation_bytes) {
  return static_cast<int64_t>(static_cast<double>(rotation_bytes) / bytes) + 1;
}

Tensor random_float_weights(DType dtype, int64_t copies, int64_t n, int64_t k) {
  Tensor out(dtype, {copies * n, k});
  std::minstd_rand rng(1);
  std::vector<float> pattern(4099);  // a prime, so that rows differ
  for (float& v : pattern) v = static_cast<float>(rng() % 2001) * 1e-3f - 1.0f;
  for (size_t i = 0; i < static_cast<size_t>(out.size()); ++i) {
    const float v = pattern[i % pattern.size()];
    if (dtype == DType::kF32) {
      out.as<float>()[i] = v;
    } else {
      out.as<BFloat16>()[i] = to_bfloat16(v);
    }
  }
  return out;
}

GemmResult measure_gemm(GemmCandidate& candidate, const GemmShape& shape, double seconds,
                        const MachineLimits& limits) {
  const std::vector<double> times = time_runs(candidate, shape, seconds);
  GemmResult r;
  r.shape = shape;
  r.kernel = candidate.info();
  r.runs = static_cast<int>(times.size());
  r.minimum = times.front();
  r.median = times[times.size() / 2];
  r.weight_bytes = candidate.weight_bytes();
  r.bandwidth = r.weight_bytes / r.minimum;
  const double ops = 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n * shape.k);
  r.ops = ops / r.minimum;
  const double peak = r.kernel.activation_bits >= 16 ? limits.float_ops : limits.integer_ops;
  const double compute = peak > 0 ? ops / peak : 0;
  r.roofline_share = std::max(compute, r.weight_bytes / limits.read_bandwidth) / r.minimum;
  return r;
}

std::vector<GemmResult> bench_gemm(const GemmBenchOptions& options, const MachineLimits& limits,
                                   const std::function<void(const GemmResult&)>& progress) {
  std::vector<GemmResult> results;
  std::vector<std::unique_ptr<BackendCandidate>> candidates;
  int64_t n = 0, k = 0;
  for (const GemmShape& shape : options.shapes) {
    if (shape.n != n || shape.k != k) {  // shapes that differ in M only share their weights
      n = shape.n;
      k = shape.k;
      candidates.clear();
      for (GemmFormat format : options.formats) {
        candidates.push_back(
            std::make_unique<BackendCandidate>(options.isa, format, n, k, options.rotation_bytes));
      }
    }
    const size_t first = results.size();
    double baseline = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      results.push_back(measure_gemm(*candidates[i], shape, options.seconds, limits));
      results.back().format = options.formats[i];
      if (options.formats[i] == GemmFormat::kF32) baseline = results.back().minimum;
    }
    for (size_t i = first; i < results.size(); ++i) {
      results[i].speedup = baseline / results[i].minimum;
      if (progress) progress(results[i]);
    }
  }
  return results;
}

}  // namespace tessera
