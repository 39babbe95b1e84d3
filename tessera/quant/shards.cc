// Collecting the tensors of a shard.
#include "tessera/quant/shards.h"

#include "tessera/quant/tensor_bridge.h"

namespace tessera {
namespace {

void add_unless_changed(Shard& shard, const std::string& name, const TensorView& original,
                        const at::Tensor& tensor) {
  if (at::equal(to_float_tensor(original, tensor.device()), tensor)) {
    shard.add(name, original);
  } else {
    shard.add(name, tensor);
  }
}

}  // namespace

void Shard::add(std::string name, const at::Tensor& changed) {
  owned_.push_back(changed.cpu().contiguous());
  add(std::move(name), view_of(owned_.back()));
}

void Shard::add(const QuantizedLinear& linear, const std::string& prefix) {
  for (NamedTensor& tensor : named_tensors(linear, prefix)) tensors_.push_back(std::move(tensor));
}

OuterWeights load_outer(const Checkpoint& checkpoint, const ModelSpec& spec, const at::Device& device) {
  const auto load = [&](const std::string& name) { return to_float_tensor(checkpoint.at(name), device); };
  return {load(spec.embedding), load(spec.final_norm + ".weight"), load(spec.lm_head)};
}

Shard outer_shard(const Checkpoint& checkpoint, const ModelSpec& spec) {
  Shard shard;
  for (const std::string& name : {spec.embedding, spec.final_norm + ".weight"}) {
    shard.add(name, checkpoint.at(name));
  }
  if (!spec.tied_embeddings) shard.add(spec.lm_head, checkpoint.at(spec.lm_head));
  return shard;
}

Shard outer_shard(const ModelSpec& spec, const std::string& lm_head, const OuterWeights& outer) {
  Shard shard;
  shard.add(spec.embedding, outer.embedding);
  shard.add(spec.final_norm + ".weight", outer.final_gain);
  shard.add(lm_head, outer.lm_head);
  return shard;
}

Shard block_shard(const Checkpoint& checkpoint, const BlockContext& context) {
  const ModelSpec& spec = context.spec;
  Shard shard;
  for (NormId id : {kAttentionNorm, kMlpNorm}) {
    const std::string name = spec.norm_name(context.layer, id);
    add_unless_changed(shard, name + ".weight", checkpoint.at(name + ".weight"), context.block.gain[id]);
  }
  for (LinearId id : spec.existing_linears()) {
    shard.add(*context.quantized[id], spec.linear_name(context.layer, id));
  }
  return shard;
}

}  // namespace tessera
