// Times linear layers of the CPU backend, beside the float path and the limits of the machine.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tessera/bench/machine_limits.h"
#include "tessera/format/random_layer.h"
#include "tessera/kernels/backend.h"

namespace tessera {

/// y [m, n] = x [m, k] * W^T.
struct GemmShape {
  int64_t m = 0, n = 0, k = 0;
};

/// "128x4096x11008" is M x N x K. Throws Error for anything else.
GemmShape gemm_shape_from_text(const std::string& text);

/// What the weights are stored in and the input becomes. The first two are float baselines.
enum class GemmFormat : uint8_t {
  kF32,   ///< F32 weights, the project's own float path
  kBf16,  ///< BF16 weights, the same path
  kW8A8,
  kW4A8,
  kW4A8Group128,
  kW4A8Group128Zeros,  ///< with zero points (DGQ)
  kW4A4Outliers,       ///< asymmetric activations, K / 16 outlier columns (QUIK)
  kW4A16,              ///< float activations
  kW4A16Group128Zeros  ///< the same in groups with zero points (GPTQ, AWQ)
};
/// "f32", "bf16", "w8a8", "w4a8", "w4a8-g128", "w4a8-g128-zeros", "w4a4-outliers", "w4a16",
/// "w4a16-g128-zeros"
std::string_view name_of(GemmFormat format);
/// Throws Error listing the names.
GemmFormat gemm_format_from_name(std::string_view name);
bool is_float(GemmFormat format);
/// A layer of a format that is no float one, of random codes. Throws Error when its groups do not fit k_in.
QuantizedLinear random_layer(GemmFormat format, int64_t n, int64_t k_in, unsigned seed);
/// All formats, baselines first.
std::vector<GemmFormat> all_gemm_formats();

struct GemmBenchOptions {
  CpuIsa isa = CpuIsa::kGeneric;
  std::vector<GemmShape> shapes;
  std::vector<GemmFormat> formats;
  double seconds = 0.3;  ///< a measurement repeats for about this long, at least 5 times
  /// Consecutive runs use different copies of the weights, of more than so many bytes together. The default
  /// is twice the last-level cache: weights always come from memory, as they do in a model.
  size_t rotation_bytes = 2 * last_level_cache();
};

/// One layer at one M: the input is quantized (or copied) and multiplied.
struct GemmResult {
  GemmShape shape;
  GemmFormat format = GemmFormat::kF32;
  KernelInfo kernel;
  int runs = 0;
  double median = 0, minimum = 0;  ///< seconds
  double weight_bytes = 0;         ///< of one copy, scales included
  double bandwidth = 0;            ///< weight bytes a second, at the minimum
  double ops = 0;                  ///< 2 m n k a second, at the minimum
  /// Time that the limits allow (the longer of reading the weights and computing) over the minimum.
  double roofline_share = 0;
  /// Minimum of kF32 at the same shape over this one; 0 when kF32 was not measured.
  double speedup = 0;
};

/// Several copies of one layer's weights; run() takes the next.
class GemmCandidate {
 public:
  virtual ~GemmCandidate() = default;
  virtual KernelInfo info() const = 0;
  virtual double weight_bytes() const = 0;  ///< of one copy
  /// y [m, n] = x [m, k] * W^T.
  virtual void run(const float* x, int64_t m, float* y) = 0;
};

/// Copies of `bytes` each that make more than rotation_bytes together.
int64_t rotating_copies(double bytes, size_t rotation_bytes);
/// Float weights of `copies` layers, one behind the other; small random values.
Tensor random_float_weights(DType dtype, int64_t copies, int64_t n, int64_t k);

/// Measures one candidate; the result's format and speedup are the caller's to fill in.
GemmResult measure_gemm(GemmCandidate& candidate, const GemmShape& shape, double seconds,
                        const MachineLimits& limits);

/// 4096x4096, 4096x11008, 2048x5632 (K x N) and those of the laboratory models, at M = 1, 4, 16, 128, 512.
std::vector<GemmShape> default_gemm_shapes();

/// Measures every format at every shape; formats of a shape follow one another, so that drift of the machine
/// touches them alike. `progress` sees each result as it comes.
std::vector<GemmResult> bench_gemm(const GemmBenchOptions& options, const MachineLimits& limits,
                                   const std::function<void(const GemmResult&)>& progress = {});

}  // namespace tessera
