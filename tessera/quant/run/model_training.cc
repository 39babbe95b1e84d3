// Loading a quantized model whole, and what training changed of it.
#include "tessera/quant/run/model_training.h"

#include <algorithm>

#include "tessera/format/load_linear.h"
#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/tensor_bridge.h"

namespace tessera {
namespace {

struct Head {
  at::Tensor weight, bias;
};

/// That of codes as floats: activations in front of the head stay exact here.
Head load_head(const Checkpoint& checkpoint, const ModelSpec& spec, const QuantizationConfig& quantization,
               const at::Device& device) {
  if (const std::string name = spec.lm_head_name(); is_quantized(checkpoint, name)) {
    const FakeQuantLinear codes(
        load_quantized_linear(checkpoint, name, quantization, spec.vocab_size, spec.hidden_size), device);
    return {codes.weight(), codes.bias()};
  }
  const std::string bias = spec.lm_head_bias();
  return {to_float_tensor(checkpoint.at(spec.lm_head), device),
          checkpoint.contains(bias) ? to_float_tensor(checkpoint.at(bias), device) : at::Tensor()};
}

/// Adds what differs from the file's.
void add_changed(Shard& shard, const Checkpoint& checkpoint, const std::string& name,
                 const at::Tensor& tensor) {
  if (tensor.defined() && !at::equal(to_float_tensor(checkpoint.at(name), tensor.device()), tensor))
    shard.add(name, tensor);
}

Shard changed_vectors(const Checkpoint& checkpoint, const ModelContext& model) {
  const ModelSpec& spec = model.spec;
  Shard shard;
  for (int64_t layer = 0; layer < spec.n_layers; ++layer) {
    const FinishedBlock& block = model.blocks[static_cast<size_t>(layer)];
    for (NormId id : spec.existing_norms()) {
      const std::string name = spec.norm_name(layer, id);
      add_changed(shard, checkpoint, name + ".weight", block.norms.gain[id]);
      add_changed(shard, checkpoint, name + ".bias", block.norms.norm_bias[id]);
    }
    for (LinearId id : spec.linear_ids()) {
      const std::string name = spec.linear_name(layer, id);
      const QuantizedLinear& linear = *block.linears[id];
      add_changed(shard, checkpoint, name + ".scale", to_float_tensor(linear.scale.view(), at::kCPU));
      if (!linear.bias.empty())
        add_changed(shard, checkpoint, name + ".bias", to_float_tensor(linear.bias.view(), at::kCPU));
    }
  }
  add_changed(shard, checkpoint, spec.final_norm + ".weight", model.gain);
  add_changed(shard, checkpoint, spec.final_norm + ".bias", model.bias);
  return shard;
}

}  // namespace

ModelTraining train_model(const RunPlan& plan, const Recipe& recipe, const Checkpoint& untrained,
                          std::span<const std::vector<int32_t>> windows, const at::Tensor& target,
                          const at::Device& device, Reporter& reporter) {
  const QuantizationConfig quantization = plan.quantization_config(recipe);
  const auto vector = [&](const Checkpoint& checkpoint, const std::string& name) {
    return checkpoint.contains(name) ? to_float_tensor(checkpoint.at(name), device) : at::Tensor();
  };
  nlohmann::json config = plan.config.values();
  config["tie_word_embeddings"] = !plan.stores_head(recipe);
  const ModelSpec spec = make_model_spec({config, plan.config.file()}, untrained);
  const auto tensor = [&](const std::string& name) { return untrained.at(name); };
  const std::string gain = spec.final_norm + ".weight", bias = spec.final_norm + ".bias";
  const Checkpoint& float_norm = plan.changes_final_norm() ? plan.checkpoint : untrained;
  const auto [lm_head, lm_head_bias] = load_head(untrained, spec, quantization, device);
  ModelContext model{.spec = spec,
                     .embedded = embed_windows(spec, tensor, windows, device),
                     .target = target,
                     .float_gain = vector(float_norm, gain),
                     .float_bias = vector(float_norm, bias),
                     .lm_head = lm_head,
                     .lm_head_bias = lm_head_bias,
                     .reporter = reporter,
                     .blocks = {},
                     .gain = vector(untrained, gain),
                     .bias = vector(untrained, bias)};
  for (int64_t layer = 0; layer < spec.n_layers; ++layer) {
    Block norms = load_norms(untrained, spec, layer, device);
    norms.kv_format = recipe.kv_format;
    model.blocks.push_back({std::move(norms), load_quantized_linears(untrained, spec, layer, quantization)});
  }
  for (const auto& pass : plan.passes) pass->run_on_model(model);
  return {changed_vectors(untrained, model), std::move(model.report)};
}

std::vector<NamedTensor> with_vectors(const SafetensorsFile& shard, const SafetensorsFile& vectors) {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, view] : shard.tensors()) tensors.push_back({name, view});
  std::ranges::sort(tensors, {}, [](const NamedTensor& tensor) { return tensor.tensor.data; });
  for (NamedTensor& tensor : tensors) {
    if (const auto found = vectors.tensors().find(tensor.name); found != vectors.tensors().end())
      tensor.tensor = found->second;
  }
  return tensors;
}

}  // namespace tessera
