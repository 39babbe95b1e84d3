// Backend: everything that a decoder needs from a device. model/ knows no other door to the kernels.
//
// An operation acts on the rows of one step (Batch), whatever their sequences. Rows are matrices in device
// memory in the data type that the backend chose. The input of a linear layer is prepared by the operation
// that produces it (norm, GLU, attention): see InputFormat.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tessera/format/quantized_linear.h"
#include "tessera/kernels/batch.h"
#include "tessera/kernels/rows.h"
#include "tessera/kernels/sampling.h"
#include "tessera/kernels/types.h"

namespace tessera {

/// What a linear layer really executes, for `tessera inspect` and for tests.
struct KernelInfo {
  std::string kernel;   ///< such as "w4a8 per-channel" or "f32 x bf16"
  std::string isa;      ///< such as "avx512vnni", "avx2", "generic", "sm_90a"
  int weight_bits = 0;  ///< 4, 8, 16 or 32
  int activation_bits = 0;
};

/// How linear layers read their input: as floats, or behind a channel map as integer codes with a scale a
/// token, beside outlier columns. Layers that share it share the prepared rows.
class InputFormat {
 public:
  virtual ~InputFormat() = default;
  /// Width of the float rows that are prepared, before any map.
  virtual int64_t width() const = 0;
};

/// Rows prepared in one InputFormat. Scratch memory that each producer overwrites.
class LinearInput {
 public:
  virtual ~LinearInput() = default;
  /// Of the rows that it holds now; null before the first.
  const InputFormat* format = nullptr;
};

/// The weights of one or several linear layers, repacked for the device. Outputs of several layers follow one
/// another.
class Linear {
 public:
  virtual ~Linear() = default;
  virtual int64_t n() const = 0;
  virtual int64_t k_in() const = 0;  ///< width of the float input, before any map
  virtual KernelInfo info() const = 0;
  /// How the product of so many rows is cut, such as "64 x 16, split 4"; empty where the kernel has no
  /// choice.
  virtual std::string tile(int64_t /*rows*/) const { return {}; }
};

/// A float layer, weight [N, K] in F32, F16 or BF16, bias F32 [N] or empty. The weight may be a view into a
/// mapped file, which must outlive what is loaded from it.
struct FloatWeight {
  TensorView weight;
  std::span<const float> bias = {};
};

/// Whether the order of a float layer's sums may depend on how many rows run together. kFixed costs speed
/// where many do; it makes a row's result independent of the batch. kNone: nothing is multiplied, rows are
/// looked up.
enum class SumOrder : uint8_t { kFixed, kByBatch, kNone };

/// Gain (and bias) of a norm over rows of `width` floats.
struct NormWeights {
  bool layer_norm =
      false;  ///< false: RMSNorm, y = x / sqrt(mean(x^2) + eps) * gain; true: LayerNorm with bias
  float eps = 1e-5f;
  std::unique_ptr<Buffer> gain, bias;
};

/// From ids to the residual stream: table[id] (+ positions[position + position_offset]), then the norm.
struct EmbeddingTables {
  const Linear* tokens = nullptr;
  const Linear* positions = nullptr;  ///< null without learned positions
  int64_t position_offset = 0;
  const NormWeights* norm = nullptr;  ///< of the tokens' rows, before positions are added; may be null
};

/// Cosines and sines of rotary positions: [max_positions][head_dim / 2] each. Pairs are (i, i + head_dim/2),
/// as in the Hugging Face checkpoints.
struct RopeTable {
  std::unique_ptr<Buffer> cos, sin;
};

/// What happens to heads between their projection and the cache: norms of q and k, then the rotation.
struct HeadRule {
  const NormWeights *query_norm = nullptr, *key_norm = nullptr;  ///< over head_dim; null: none
  const RopeTable* rope = nullptr;                               ///< null: none
};

/// What a family adds to causal attention.
struct AttentionRule {
  int64_t window = 0;                   ///< > 0: a token sees the last `window` positions alone
  const float* alibi_slopes = nullptr;  ///< [n_heads], device memory: a score, scaled by 1 / sqrt(head_dim),
                                        ///< gets slope * (key position - query position)
};

/// A Batch in device memory.
class DeviceBatch {
 public:
  virtual ~DeviceBatch() = default;
  /// Rows that operations run: the batch's, or more, when the device has steps of certain sizes prepared.
  /// What the further rows hold means nothing; they store nothing.
  virtual int64_t rows() const = 0;
};

/// Bytes of a device's memory.
struct DeviceMemory {
  uint64_t total = 0, free = 0;
};

/// What one step takes at most.
struct StepLimits {
  int64_t rows = 0;            ///< enough to keep a GEMM busy
  int64_t logit_elements = 0;  ///< logits at once
};

class Backend {
 public:
  virtual ~Backend() = default;
  /// "cpu avx512vnni, 2 threads"
  virtual std::string name() const = 0;
  virtual StepLimits limits() const { return {.rows = 512, .logit_elements = int64_t{1} << 22}; }

  /// The memory that only this device has; empty where weights stay in that of the host.
  virtual std::optional<DeviceMemory> own_memory() const { return {}; }

  virtual std::unique_ptr<Buffer> allocate(size_t bytes) = 0;
  virtual void upload(std::span<const std::byte> from, Buffer& to) = 0;
  virtual RowBuffer make_rows(RowUse use, int64_t count, int64_t width) = 0;
  /// Waits for the device, then copies all elements of `from` as floats, row after row.
  virtual void download(const Rows& from, std::span<float> to) = 0;

  /// Float rows of `width`.
  virtual std::unique_ptr<InputFormat> float_input(int64_t width) = 0;
  /// As `linear` reads its input.
  virtual std::unique_ptr<InputFormat> input_of(const QuantizedLinear& linear) = 0;
  /// Repacks layers that can be joined (can_join()) and read `input`. Throws Error with the reason when no
  /// kernel of this device can run them.
  virtual std::unique_ptr<Linear> load(std::span<const QuantizedLinear* const> parts,
                                       const InputFormat& input) = 0;
  /// Float layers over the same float rows.
  virtual std::unique_ptr<Linear> load(std::span<const FloatWeight> parts, SumOrder order) = 0;

  /// Room for max_rows rows of up to max_width columns.
  virtual std::unique_ptr<LinearInput> make_input(int64_t max_rows, int64_t max_width) = 0;
  /// Throws Error when memory does not suffice or a quantized format meets an odd head_dim.
  virtual std::unique_ptr<KvPool> make_kv_pool(const KvShape& shape, int64_t pages) = 0;
  virtual std::unique_ptr<DeviceBatch> make_batch() = 0;
  virtual void upload(const Batch& from, DeviceBatch& to) = 0;
  /// Calls `operations`, which enqueue operations on `batch` and `pool` and do nothing else. A device may
  /// record what they enqueue and replay it for later batches of as many rows, with the same pool.
  virtual void run(const DeviceBatch& /*batch*/, KvPool& /*pool*/, const std::function<void()>& operations) {
    operations();
  }

  /// h [rows, hidden] of the batch's ids and positions.
  virtual void embed(const EmbeddingTables& tables, const DeviceBatch& batch, const Rows& h) = 0;
  /// h += delta.
  virtual void add(const Rows& delta, const Rows& h) = 0;
  /// h += delta, where there is one; then the norm of h, prepared as `format`.
  virtual void add_norm(const Rows& h, const Rows* delta, const NormWeights& weights,
                        const InputFormat& format, LinearInput& out) = 0;
  /// The norm of h + delta in the rows that want logits, first .. first + count - 1 of them, prepared as
  /// `format`. Leaves h as it is.
  virtual void norm_wanted(const Rows& h, const Rows* delta, const DeviceBatch& batch, int64_t first,
                           int64_t count, const NormWeights& weights, const InputFormat& format,
                           LinearInput& out) = 0;
  /// x, prepared as `format`.
  virtual void prepare(const Rows& x, const InputFormat& format, LinearInput& out) = 0;
  /// out [m, n] = input * W^T + bias for the first m = out.count prepared rows; with `accumulate` it is added
  /// to out.
  virtual void linear(const Linear& weights, const LinearInput& input, const Rows& out,
                      bool accumulate = false) = 0;
  /// Norms and rotates the heads of q [rows, n_heads * head_dim] and k [rows, n_kv_heads * head_dim], then
  /// stores k and v of `layer` at the positions of the batch.
  virtual void append(const Rows& q, const Rows& k, const Rows& v, const HeadRule& rule,
                      const DeviceBatch& batch, int64_t layer, KvPool& pool) = 0;
  /// Causal attention of q over everything that is stored up to each row's own position, prepared as
  /// `format`.
  virtual void attention(const Rows& q, const DeviceBatch& batch, int64_t layer, const KvPool& pool,
                         const AttentionRule& rule, const InputFormat& format, LinearInput& out) = 0;
  /// activation(gate) * up, or activation(up) where gate is null, prepared as `format`.
  virtual void glu(const Rows* gate, const Rows& up, GluActivation activation, const InputFormat& format,
                   LinearInput& out) = 0;
  /// ids[i] drawn from row i of `logits` as draws[i] says; kNoToken where that row is not finite.
  virtual void sample(const Rows& logits, std::span<const Draw> draws, std::span<int32_t> ids) = 0;
};

}  // namespace tessera
