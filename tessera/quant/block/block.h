// A decoder block in floating point, as libtorch tensors, and its forward pass in the steps that calibration
// needs.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>

#include "tessera/arch/model_spec.h"
#include "tessera/format/quantization_config.h"
#include "tessera/quant/block/channel_map.h"

namespace tessera {

/// Float32 parameters of one block, on the calibration device. Absent biases, linears and norms are undefined
/// tensors.
struct Block {
  Block() = default;
  /// All tensors undefined.
  explicit Block(const ModelSpec& spec)
      : weight(spec.linears.size()), bias(spec.linears.size()), map(spec.linears.size()) {}

  PerLinear<at::Tensor> weight;             ///< [N, K], or [N, columns of the map]
  PerLinear<at::Tensor> bias;               ///< [N]
  std::array<at::Tensor, kNormCount> gain;  ///< [norm_width]
  std::array<at::Tensor, kNormCount> norm_bias;
  PerLinear<ChannelMap> map;  ///< of the linears' inputs, equal for the readers of a site
  int64_t window = 0;         ///< ModelSpec::window of this layer
  /// The cache that attention reads its keys and values from: a quantized one rounds them, F16 counts as
  /// exact.
  KvFormat kv_format = KvFormat::kF16;
};

/// Reads the norms of block `layer`; its linears stay undefined. Throws Error when a value is not finite.
Block load_norms(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer,
                 const at::Device& device);
/// Reads block `layer`; linears in codes are dequantized as `quantization` says, null for float models.
/// Throws Error when a weight is not finite.
Block load_block(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer, const at::Device& device,
                 const QuantizationConfig* quantization = nullptr);

/// The integer linears of block `layer` of a quantized checkpoint. Throws Error for damaged ones.
PerLinear<std::optional<QuantizedLinear>> load_quantized_linears(const Checkpoint& checkpoint,
                                                                 const ModelSpec& spec, int64_t layer,
                                                                 const QuantizationConfig& quantization);

/// y [..., N] of linear `id` for its input x [..., K]. Replaced to quantize, observed to calibrate.
using LinearFn = std::function<at::Tensor(LinearId id, const at::Tensor& x)>;

/// What the weight of linear `id` multiplies: x [..., K] behind the linear's map.
at::Tensor mapped_input(const Block& block, LinearId id, const at::Tensor& x);

/// The plain float linears of `block`, which must outlive the function.
LinearFn float_linears(const Block& block);

/// The spec's kind of norm of x [..., width]; `bias` [width] is undefined for RMSNorm.
at::Tensor normalize(const ModelSpec& spec, const at::Tensor& x, const at::Tensor& gain,
                     const at::Tensor& bias);
/// Norm `id` of x [..., norm_width].
at::Tensor norm_forward(const ModelSpec& spec, const Block& block, NormId id, const at::Tensor& x);
/// Norms of heads, RoPE or ALiBi, grouped-query attention, causal mask, softmax: everything between q, k, v
/// [B, T, heads * head_dim] and o_proj. `block` gives the norms.
at::Tensor attention_core(const ModelSpec& spec, const Block& block, const at::Tensor& q, const at::Tensor& k,
                          const at::Tensor& v);
/// Query rows whose attention scores exist at once.
constexpr int64_t kQueryRows = 256, kGpuQueryRows = 2048;
/// activation(gate) * up, or activation(up) for families without a gate.
at::Tensor mlp_core(const ModelSpec& spec, const at::Tensor& gate, const at::Tensor& up);

/// Bytes of the intermediate activations of block_step for `windows` windows of `tokens` tokens.
size_t forward_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens);

/// Bytes that autograd keeps of block_step with rounded inputs for `windows` windows of `tokens` tokens.
size_t backward_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens);

/// Windows of `tokens` tokens that go through a block at once: enough tokens for large matrix products, few
/// enough that the intermediate activations stay near the cache and out of the memory's peak. A GPU wants
/// more.
inline int64_t windows_per_chunk(int64_t tokens, const at::Device& device = at::kCPU) {
  const int64_t chunk_tokens = device.is_cpu() ? 1024 : 16384;
  return std::max<int64_t>(1, chunk_tokens / tokens);
}
/// forward_bytes of block_forward, which runs windows_per_chunk of them at once.
inline size_t chunk_forward_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) {
  return forward_bytes(spec, std::min(windows, windows_per_chunk(tokens)), tokens);
}

/// The block on all of x [B, T, hidden] at once, for small samples: `linear` is called once for every linear,
/// in order of execution.
at::Tensor block_step(const ModelSpec& spec, const Block& block, const LinearFn& linear, const at::Tensor& x);

/// The whole block: x [B, T, hidden] -> [B, T, hidden]. Positions start at 0 in each of the B windows.
at::Tensor block_forward(const ModelSpec& spec, const Block& block, const LinearFn& linear,
                         const at::Tensor& x);

}  // namespace tessera
