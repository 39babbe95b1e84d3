// Loading a block's parameters and running its steps.
#include "tessera/quant/block/block.h"

#include "tessera/arch/linear_tensors.h"
#include "tessera/base/error.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/reference.h"
#include "tessera/quant/block/tensor_bridge.h"

namespace tessera {
namespace {

at::Tensor load_finite(const TensorView& view, const Checkpoint& checkpoint, const std::string& name,
                       const at::Device& device) {
  at::Tensor tensor = to_float_tensor(view, device);
  if (at::isfinite(tensor).all().item<bool>()) return tensor;
  throw Error("{}: {} holds a value that is not finite; repair or re-download the checkpoint",
              checkpoint.dir().string(), name);
}

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kRelu:
      return at::relu(x);
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
  }
  return x;
}

at::Tensor float_tensor(std::vector<float> values, const Shape& shape, const at::Device& device) {
  return at::from_blob(values.data(), shape, at::kFloat).clone().to(device);
}

/// Weight and bias of linear `id` of the block.
void dequantize_linear(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer, LinearId id,
                       const QuantizationConfig& quantization, const at::Device& device, Block& block) {
  const LinearSpec& shape = spec.linears[id];
  const std::string name = spec.linear_name(layer, id);
  const QuantizedLinear linear = load_quantized_linear(checkpoint, name, quantization, shape.n, shape.k);
  block.weight[id] = float_tensor(input_weights(linear), {shape.n, shape.k}, device);
  if (shape.bias != !linear.bias.empty()) {
    throw Error("{}: {}.bias is {}", checkpoint.dir().string(), name,
                shape.bias ? "missing" : "there, but the architecture has none");
  }
  if (shape.bias) block.bias[id] = float_tensor(to_floats(linear.bias.view()), {shape.n}, device);
}

}  // namespace

Block load_norms(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer,
                 const at::Device& device) {
  Block block(spec);
  block.window = spec.window(layer);
  for (NormId id : spec.existing_norms()) {
    const std::string name = spec.norm_name(layer, id);
    const auto load = [&](const std::string& tensor) {
      return load_finite(checkpoint.at(tensor, {spec.norm_width(id)}), checkpoint, tensor, device);
    };
    block.gain[id] = load(name + ".weight");
    if (spec.norm == NormKind::kLayer) block.norm_bias[id] = load(name + ".bias");
  }
  return block;
}

Block load_block(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer, const at::Device& device,
                 const QuantizationConfig* quantization) {
  Block block = load_norms(checkpoint, spec, layer, device);
  for (LinearId id : spec.linear_ids()) {
    if (quantization && is_quantized(checkpoint, spec.linear_name(layer, id))) {
      dequantize_linear(checkpoint, spec, layer, id, *quantization, device, block);
      continue;
    }
    const std::string name = spec.source_name(layer, id);
    block.weight[id] =
        load_finite(linear_weight(checkpoint, spec, layer, id), checkpoint, name + ".weight", device);
    if (spec.linears[id].bias) {
      block.bias[id] =
          load_finite(linear_bias(checkpoint, spec, layer, id), checkpoint, name + ".bias", device);
    }
  }
  return block;
}

PerLinear<std::optional<QuantizedLinear>> load_quantized_linears(const Checkpoint& checkpoint,
                                                                 const ModelSpec& spec, int64_t layer,
                                                                 const QuantizationConfig& quantization) {
  PerLinear<std::optional<QuantizedLinear>> linears(spec.linears.size());
  for (LinearId id : spec.linear_ids()) {
    const LinearSpec& linear = spec.linears[id];
    linears[id] =
        load_quantized_linear(checkpoint, spec.linear_name(layer, id), quantization, linear.n, linear.k);
  }
  return linears;
}

at::Tensor mapped_input(const Block& block, LinearId id, const at::Tensor& x) {
  return block.map[id].repeated(block.map[id].apply(x));
}

LinearFn float_linears(const Block& block) {
  return [&block](LinearId id, const at::Tensor& x) {
    const at::Tensor y = at::matmul(mapped_input(block, id, x), block.weight[id].t());
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
  at::Tensor hidden = x;
  PerLinear<at::Tensor> out(spec.linears.size());  // of the linears behind norms
  const auto take = [&](LinearRole role) { return std::exchange(out[spec.id(role)], {}); };
  for (const Site& site : spec.sites) {
    if (site.producer == Site::Producer::kNorm) {
      const at::Tensor in = norm_forward(spec, block, site.norm, hidden);
      for (LinearId id : site.readers) out[id] = linear(id, in);
    } else if (spec.reads_attention(site)) {
      const at::Tensor in = attention_core(spec, block, take(kQ), take(kK), take(kV));
      hidden = hidden + linear(site.readers.front(), in);
    } else {
      const at::Tensor in = mlp_core(spec, spec.gated() ? take(kGate) : at::Tensor(), take(kUp));
      hidden = hidden + linear(site.readers.front(), in);
    }
  }
  return hidden;
}

size_t forward_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) {
  // The residual stream and the norms' outputs, q, k and v before and after rotation, gate, up, their product
  // and its codes; the scores of kQueryRows query rows before and after the softmax, and their mask.
  const int64_t columns = 6 * spec.hidden_size + 3 * spec.q_size() + 3 * spec.kv_size() +
                          (spec.gated() ? 4 : 3) * spec.intermediate_size;
  const int64_t masks = spec.positions == Positions::kAlibi ? 2 * spec.n_heads : 2;
  const int64_t scores = (2 * spec.n_heads + masks) * std::min(kQueryRows, tokens) * tokens;
  return static_cast<size_t>(columns * windows * tokens + scores) * sizeof(float);
}

size_t backward_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) {
  // Around every site its input, mapped, its codes and their product with the scale; the norms' steps;
  // rotated queries and keys; attention weights before and after the softmax; the MLP's inner steps.
  const int64_t columns = 24 * spec.hidden_size + 8 * spec.q_size() + 6 * spec.kv_size() +
                          9 * spec.intermediate_size + 2 * spec.n_heads * tokens;
  return static_cast<size_t>(columns * windows * tokens) * sizeof(float);
}

at::Tensor block_forward(const ModelSpec& spec, const Block& block, const LinearFn& linear,
                         const at::Tensor& x) {
  const int64_t windows = x.size(0), step = windows_per_chunk(x.size(1), x.device());
  at::Tensor out = at::empty_like(x);
  for (int64_t begin = 0; begin < windows; begin += step) {
    const int64_t count = std::min(step, windows - begin);
    out.narrow(0, begin, count).copy_(block_step(spec, block, linear, x.narrow(0, begin, count)));
  }
  return out;
}

}  // namespace tessera
