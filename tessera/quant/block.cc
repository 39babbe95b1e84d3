// Loading a block's parameters and running its steps.
#include "tessera/quant/block.h"

#include "tessera/base/error.h"
#include "tessera/quant/tensor_bridge.h"

namespace tessera {
namespace {

at::Tensor load_finite(const Checkpoint& checkpoint, const std::string& name, const Shape& shape,
                       const at::Device& device) {
  at::Tensor tensor = to_float_tensor(checkpoint.at(name, shape), device);
  if (!at::isfinite(tensor).all().item<bool>()) {
    throw Error("{}: {} holds a value that is not finite; repair or re-download the checkpoint",
                checkpoint.dir().string(), name);
  }
  return tensor;
}

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kRelu:
      return at::relu(x);
    case Activation::kGelu:
      return at::gelu(x);
  }
  return x;
}

}  // namespace

Block load_norms(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer,
                 const at::Device& device) {
  Block block;
  for (NormId id : {kAttentionNorm, kMlpNorm}) {
    const std::string name = spec.norm_name(layer, id);
    block.gain[id] = load_finite(checkpoint, name + ".weight", {spec.hidden_size}, device);
    if (spec.norm == NormKind::kLayer) {
      block.norm_bias[id] = load_finite(checkpoint, name + ".bias", {spec.hidden_size}, device);
    }
  }
  return block;
}

Block load_block(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer,
                 const at::Device& device) {
  Block block = load_norms(checkpoint, spec, layer, device);
  for (LinearId id : spec.existing_linears()) {
    const LinearSpec& linear = spec.linears[id];
    const std::string name = spec.linear_name(layer, id);
    block.weight[id] = load_finite(checkpoint, name + ".weight", {linear.n, linear.k}, device);
    if (linear.bias) block.bias[id] = load_finite(checkpoint, name + ".bias", {linear.n}, device);
  }
  return block;
}

LinearFn float_linears(const Block& block) {
  return [&block](LinearId id, const at::Tensor& x) {
    const at::Tensor y = at::matmul(x, block.weight[id].t());
    return block.bias[id].defined() ? y + block.bias[id] : y;
  };
}

at::Tensor normalize(const ModelSpec& spec, const at::Tensor& x, const at::Tensor& gain,
                     const at::Tensor& bias) {
  if (spec.norm == NormKind::kLayer) return at::layer_norm(x, {x.size(-1)}, gain, bias, spec.norm_eps);
  return x * at::rsqrt(x.square().mean({-1}, /*keepdim=*/true) + spec.norm_eps) * gain;
}

at::Tensor norm_forward(const ModelSpec& spec, const Block& block, NormId id, const at::Tensor& x) {
  return normalize(spec, x, block.gain[id], block.norm_bias[id]);
}

at::Tensor mlp_core(const ModelSpec& spec, const at::Tensor& gate, const at::Tensor& up) {
  return gate.defined() ? activate(spec.activation, gate).mul_(up) : activate(spec.activation, up);
}

at::Tensor block_step(const ModelSpec& spec, const Block& block, const LinearFn& linear,
                      const at::Tensor& x) {
  const at::Tensor attention_in = norm_forward(spec, block, kAttentionNorm, x);
  const at::Tensor q = linear(kQ, attention_in), k = linear(kK, attention_in), v = linear(kV, attention_in);
  const at::Tensor middle = x + linear(kO, attention_core(spec, q, k, v));
  const at::Tensor mlp_in = norm_forward(spec, block, kMlpNorm, middle);
  const at::Tensor gate = spec.gated() ? linear(kGate, mlp_in) : at::Tensor();
  return middle + linear(kDown, mlp_core(spec, gate, linear(kUp, mlp_in)));
}

size_t forward_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) {
  // The residual stream and the norms' outputs, q, k and v before and after rotation, gate, up, their product
  // and its codes; the scores of a run of query rows before and after the softmax, and their mask.
  const int64_t columns = 6 * spec.hidden_size + 3 * spec.q_size() + 3 * spec.kv_size() +
                          (spec.gated() ? 4 : 3) * spec.intermediate_size;
  const int64_t scores = (2 * spec.n_heads + 2) * std::min(kQueryRows, tokens) * tokens;
  return static_cast<size_t>(columns * windows * tokens + scores) * sizeof(float);
}

at::Tensor block_forward(const ModelSpec& spec, const Block& block, const LinearFn& linear,
                         const at::Tensor& x) {
  const int64_t windows = x.size(0), step = windows_per_chunk(x.size(1));
  at::Tensor out = at::empty_like(x);
  for (int64_t begin = 0; begin < windows; begin += step) {
    const int64_t count = std::min(step, windows - begin);
    out.narrow(0, begin, count).copy_(block_step(spec, block, linear, x.narrow(0, begin, count)));
  }
  return out;
}

}  // namespace tessera
