// Collecting the tensors of a shard.
#include "tessera/quant/run/shards.h"

#include <algorithm>
#include <cassert>

#include "tessera/quant/block/tensor_bridge.h"

namespace tessera {
namespace {

struct OuterTensor {
  std::string name;
  at::Tensor OuterWeights::*member;
};

/// Every tensor outside the blocks that a family may have. In a tied model embedding and lm_head share a
/// name.
std::vector<OuterTensor> outer_tensors(const ModelSpec& spec) {
  return {{spec.embedding, &OuterWeights::embedding},
          {spec.position_embedding, &OuterWeights::position_embedding},
          {spec.embedding_norm + ".weight", &OuterWeights::embedding_gain},
          {spec.embedding_norm + ".bias", &OuterWeights::embedding_bias},
          {spec.final_norm + ".weight", &OuterWeights::final_gain},
          {spec.final_norm + ".bias", &OuterWeights::final_bias},
          {spec.lm_head, &OuterWeights::lm_head},
          {spec.lm_head_bias(), &OuterWeights::lm_head_bias}};
}

}  // namespace

void Shard::add(std::string name, const at::Tensor& changed) {
  add(std::move(name), view_of(changed.cpu().contiguous()));
}

void Shard::add(const QuantizedLinear& linear, const std::string& prefix) {
  for (NamedTensor& tensor : named_tensors(linear, prefix)) tensors_.push_back(std::move(tensor));
}

void Shard::add(QuantizedLinear&& linear, const std::string& prefix) {
  add(owned_linears_.emplace_back(std::move(linear)), prefix);
}

void Shard::remove(const std::string& name) {
  std::erase_if(tensors_, [&](const NamedTensor& tensor) { return tensor.name == name; });
}

bool Shard::contains(const std::string& name) const {
  return std::ranges::any_of(tensors_, [&](const NamedTensor& tensor) { return tensor.name == name; });
}

const TensorView& Shard::at(const std::string& name) const {
  const auto found = std::ranges::find(tensors_, name, &NamedTensor::name);
  assert(found != tensors_.end());
  return found->tensor;
}

void add_unless_changed(Shard& shard, const std::string& name, const TensorView& original,
                        const at::Tensor& tensor) {
  if (at::equal(to_float_tensor(original, tensor.device()), tensor)) {
    shard.add(name, original);
  } else {
    shard.add(name, tensor);
  }
}

OuterWeights load_outer(const Checkpoint& checkpoint, const ModelSpec& spec, const at::Device& device) {
  OuterWeights outer;
  for (const auto& [name, member] : outer_tensors(spec)) {
    if (checkpoint.contains(name)) outer.*member = to_float_tensor(checkpoint.at(name), device);
  }
  return outer;
}

int64_t outer_elements(const Checkpoint& checkpoint, const ModelSpec& spec) {
  int64_t elements = 0;
  for (const auto& [name, member] : outer_tensors(spec)) {
    if (checkpoint.contains(name)) elements += checkpoint.info(name).size();
  }
  return elements;
}

Shard outer_shard(const Checkpoint& checkpoint, const ModelSpec& spec) {
  Shard shard;
  for (const auto& [name, member] : outer_tensors(spec)) {
    if (checkpoint.contains(name) && !shard.contains(name)) shard.add(name, checkpoint.at(name));
  }
  return shard;
}

Shard outer_shard(const ModelSpec& untied, const OuterWeights& outer, DType dtype) {
  Shard shard;
  for (const auto& [name, member] : outer_tensors(untied)) {
    const at::Tensor& tensor = outer.*member;
    if (tensor.defined()) shard.add(name, tensor.dim() == 2 ? narrowed(tensor, dtype) : tensor);
  }
  return shard;
}

Shard block_shard(const Checkpoint& checkpoint, const BlockContext& context) {
  const ModelSpec& spec = context.spec;
  const Block& block = context.block;
  Shard shard;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    if (tensor.defined()) add_unless_changed(shard, name, checkpoint.at(name), tensor);
  };
  for (NormId id : spec.existing_norms()) {
    const std::string name = spec.norm_name(context.layer, id);
    add(name + ".weight", block.gain[id]);
    add(name + ".bias", block.norm_bias[id]);
  }
  for (LinearId id : spec.linear_ids()) {
    shard.add(*context.quantized[id], spec.linear_name(context.layer, id));
  }
  return shard;
}

}  // namespace tessera
