// Backend: everything that a decoder needs from a device. model/ knows no other door to the kernels.
//
// All float arrays are row-major, in device memory, one row a token. A quantized layer's input is prepared
// once by the operation that produces it (norm, GLU, attention output) and then read by all linears of its
// site.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tessera/format/kv_format.h"
#include "tessera/format/quantized_linear.h"
#include "tessera/kernels/types.h"

namespace tessera {

/// Device memory. Freed on destruction.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;
  virtual size_t bytes() const = 0;
  float* floats() { return static_cast<float*>(data()); }
};

/// What a linear layer really executes, for `tessera inspect` and for tests.
struct KernelInfo {
  std::string kernel;   ///< such as "w4a8 per-channel" or "f32 x bf16"
  std::string isa;      ///< such as "avx512vnni", "avx2", "generic", "sm_90a"
  int weight_bits = 0;  ///< 4, 8, 16 or 32
  int activation_bits = 0;
};

/// The weights of one linear layer, repacked for the device.
class Linear {
 public:
  virtual ~Linear() = default;
  virtual int64_t n() const = 0;
  virtual int64_t k_in() const = 0;  ///< width of the float input, before any map
  virtual KernelInfo info() const = 0;
};

/// The input of a site's linears: float rows, or integer codes with a scale a token, as those linears read
/// it. Scratch memory that is overwritten by each producer.
class LinearInput {
 public:
  virtual ~LinearInput() = default;
};

/// Gain (and bias) of a norm over rows of `width` floats.
struct NormWeights {
  bool layer_norm =
      false;  ///< false: RMSNorm, y = x / sqrt(mean(x^2) + eps) * gain; true: LayerNorm with bias
  float eps = 1e-5f;
  std::unique_ptr<Buffer> gain, bias;
};

/// Keys and values of one sequence.
struct KvCache {
  int64_t n_layers = 0, n_kv_heads = 0, head_dim = 0, capacity = 0;
  KvFormat format = KvFormat::kF16;
  int64_t length = 0;  ///< positions filled
  /// Per layer [n_kv_heads][capacity] rows of kv_row_bytes.
  std::vector<std::unique_ptr<Buffer>> keys, values;
  /// Per layer [n_kv_heads][capacity] KvScale; empty unless the format is quantized.
  std::vector<std::unique_ptr<Buffer>> key_scales, value_scales;
};

/// Cosines and sines of rotary positions: [max_positions][head_dim / 2] each. Pairs are (i, i + head_dim/2),
/// as in the Hugging Face checkpoints.
struct RopeTable {
  std::unique_ptr<Buffer> cos, sin;
};

/// What a family adds to causal attention.
struct AttentionRule {
  int64_t window = 0;                   ///< > 0: a token sees the last `window` positions alone
  const float* alibi_slopes = nullptr;  ///< [n_heads], device memory: a score, scaled by 1 / sqrt(head_dim),
                                        ///< gets slope * (key position - query position)
};

class Backend {
 public:
  virtual ~Backend() = default;
  /// "cpu avx512vnni, 2 threads"
  virtual std::string name() const = 0;

  virtual std::unique_ptr<Buffer> allocate(size_t bytes) = 0;
  virtual void upload(Buffer& to, std::span<const std::byte> from) = 0;
  /// Waits for the device, then copies `count` floats.
  virtual void download(const float* from, std::span<float> to) = 0;

  /// Repacks; throws Error with the reason when no kernel of this device can run the layer.
  virtual std::unique_ptr<Linear> load(const QuantizedLinear& linear) = 0;
  /// A float layer, weight [N, K] in F32, F16 or BF16, bias F32 [N] or empty. `weight` may be a view into a
  /// mapped file and must outlive the layer.
  virtual std::unique_ptr<Linear> load(const TensorView& weight, std::span<const float> bias) = 0;
  /// An empty cache. Throws Error when a quantized format meets an odd head_dim.
  KvCache make_cache(int64_t n_layers, int64_t n_kv_heads, int64_t head_dim, int64_t capacity,
                     KvFormat format);
  /// Room for max_tokens rows of up to max_width columns.
  virtual std::unique_ptr<LinearInput> make_input(int64_t max_tokens, int64_t max_width) = 0;

  /// out[m, :] = table[ids[m], :]; table [vocab, width] in F32, F16 or BF16 as loaded by load().
  virtual void embed(const Linear& table, std::span<const int32_t> ids, float* out) = 0;
  /// Norm of x [m, width], prepared for `reader`.
  virtual void norm(const float* x, int64_t m, const NormWeights& weights, const Linear& reader,
                    LinearInput& out) = 0;
  /// The norm of each of `rows` rows of `width` floats, in place: heads of q and k, embeddings.
  virtual void normalize(float* x, int64_t rows, int64_t width, const NormWeights& weights) = 0;
  /// x [m, k_in] prepared for `reader`.
  virtual void prepare(const float* x, int64_t m, const Linear& reader, LinearInput& out) = 0;
  /// activation(gate) * up, or activation(up) when gate is null, both [m, k_in], prepared for `reader`.
  virtual void glu(const float* gate, const float* up, int64_t m, GluActivation activation,
                   const Linear& reader, LinearInput& out) = 0;
  /// y [m, n] = input * W^T + bias; with `accumulate` it is added to y (the residual stream).
  virtual void linear(const Linear& weights, const LinearInput& input, int64_t m, float* y,
                      bool accumulate) = 0;
  /// Rotates q [m, n_heads * head_dim] and k [m, n_kv_heads * head_dim] of tokens at positions first .. first
  /// + m - 1.
  virtual void rope(float* q, float* k, int64_t m, int64_t first, int64_t n_heads, int64_t n_kv_heads,
                    int64_t head_dim, const RopeTable& table) = 0;
  /// Stores k, v [m, n_kv_heads * head_dim] of `layer` at positions cache.length .. cache.length + m - 1.
  virtual void append(KvCache& cache, int64_t layer, const float* k, const float* v, int64_t m) = 0;
  /// Causal attention of m new tokens (already appended; the first stands at position cache.length) over
  /// everything before, as `rule` says. q, out [m, n_heads * head_dim].
  virtual void attention(const float* q, const KvCache& cache, int64_t layer, int64_t m, int64_t n_heads,
                         const AttentionRule& rule, float* out) = 0;
  /// y[i] += x[i].
  virtual void add(const float* x, int64_t count, float* y) = 0;
};

/// Scalar code in the order of the definitions; slow, for tests.
std::unique_ptr<Backend> make_reference_backend();

std::string_view name_of(CpuIsa isa);
/// The best one that this processor has, unless the environment variable TESSERA_ISA names a lower one.
/// Throws Error when TESSERA_ISA is unknown or beyond the processor.
CpuIsa detect_cpu_isa();
/// Throws Error when this processor lacks `isa`.
std::unique_ptr<Backend> make_cpu_backend(CpuIsa isa);

}  // namespace tessera
