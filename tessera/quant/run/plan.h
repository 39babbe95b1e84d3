// A model, and what a recipe asks of it.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "tessera/quant/passes/pass.h"
#include "tessera/quant/recipe/recipe.h"

namespace tessera {

struct RunPlan {
  /// Reads the model's config.json and the names and shapes of its tensors. Throws Error when model and
  /// recipe do not fit together.
  RunPlan(const std::filesystem::path& model_dir, const Recipe& recipe);

  /// Whether a pass gives something else without calibration windows.
  bool needs_calibration() const;
  /// What a reader needs beside the tensors.
  QuantizationConfig quantization_config(const Recipe& recipe) const;
  bool unties_embedding() const;
  bool changes_final_norm() const;
  /// Whether a pass works on the whole model behind the last block.
  bool trains_model() const;
  /// Whether the result has a head of its own beside the embedding, whatever config.json says of the source.
  bool stores_head(const Recipe& recipe) const;
  /// Index of the pass that works on groups of blocks; the number of passes where there is none.
  size_t group_pass() const;
  /// Blocks that are worked on together.
  int64_t group_blocks() const;

  ModelConfig config;
  Checkpoint checkpoint;
  ModelSpec spec;
  PerLinear<LinearScheme> schemes;
  std::vector<std::unique_ptr<Pass>> passes;
};

}  // namespace tessera
