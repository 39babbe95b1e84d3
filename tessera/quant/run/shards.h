// What the shards of a quantized checkpoint hold. Float tensors that no pass changed are copied byte for
// byte; changed vectors become F32, so that folding rounds nothing.
#pragma once

#include <vector>

#include "tessera/quant/passes/pass.h"

namespace tessera {

/// Tensors to write, and the linears that some of them are views of.
class Shard {
 public:
  void add(std::string name, const TensorView& mapped) { tensors_.push_back({std::move(name), mapped}); }
  void add(std::string name, const at::Tensor& changed);
  void add(const QuantizedLinear& linear, const std::string& prefix);  ///< `linear` must outlive the shard
  void add(QuantizedLinear&& linear, const std::string& prefix);
  void remove(const std::string& name);

  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  bool contains(const std::string& name) const;
  /// The tensor must be there.
  const TensorView& at(const std::string& name) const;

 private:
  std::vector<NamedTensor> tensors_;
  std::vector<QuantizedLinear> owned_linears_;  ///< views into them stay when they move
};

/// Adds `tensor`, as the checkpoint has it where its values are those of `original`, otherwise in float32.
void add_unless_changed(Shard& shard, const std::string& name, const TensorView& original,
                        const at::Tensor& tensor);

/// The parameters outside the blocks, in float32.
OuterWeights load_outer(const Checkpoint& checkpoint, const ModelSpec& spec, const at::Device& device);

/// Values of load_outer's tensors together.
int64_t outer_elements(const Checkpoint& checkpoint, const ModelSpec& spec);

/// The parameters outside the blocks as the checkpoint has them.
Shard outer_shard(const Checkpoint& checkpoint, const ModelSpec& spec);
/// The same, changed by a pass, with the names of `untied`, whose lm_head is not the embedding. Matrices are
/// rounded to `dtype`, that of the checkpoint: in float32 they would outweigh the blocks of a small model,
/// and what rounding them costs is far below what quantized blocks do.
Shard outer_shard(const ModelSpec& untied, const OuterWeights& outer, DType dtype);

/// Norms and quantized linears of a block whose passes have run.
Shard block_shard(const Checkpoint& checkpoint, const BlockContext& context);

}  // namespace tessera
