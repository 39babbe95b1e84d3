// Passes that train the whole model: from the untrained shards of a run to the vectors that replace theirs.
#pragma once

#include "tessera/quant/block/streams.h"
#include "tessera/quant/run/plan.h"
#include "tessera/quant/run/shards.h"

namespace tessera {

/// What the plan's passes make of the whole model.
struct ModelTraining {
  Shard vectors;  ///< norms, output scales and biases that have changed, under their names
  nlohmann::json report;
};

/// Runs the passes that train the whole model. `untrained` holds the quantized model, `windows` are the token
/// ids of calibration, `target` is the float model's stream behind the last block, on `device`.
ModelTraining train_model(const RunPlan& plan, const Recipe& recipe, const Checkpoint& untrained,
                          std::span<const std::vector<int32_t>> windows, const at::Tensor& target,
                          const at::Device& device, Reporter& reporter);

/// The tensors of a shard, in their order, with those of `vectors` in place of their namesakes. Views into
/// both files.
std::vector<NamedTensor> with_vectors(const SafetensorsFile& shard, const SafetensorsFile& vectors);

}  // namespace tessera
