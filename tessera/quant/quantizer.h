// The quantization run: checkpoint in, checkpoint out, one block in memory at a time.
#pragma once

#include <filesystem>
#include <string>

#include "tessera/base/reporter.h"
#include "tessera/quant/calibration.h"
#include "tessera/quant/recipe.h"

namespace tessera {

struct QuantizeOptions {
  std::filesystem::path model_dir, output_dir;
  Recipe recipe;
  CalibrationSet calibration;
  std::string device = "cpu";  ///< "cpu", "cuda", "cuda:1"
  bool resume = false;         ///< continue an interrupted run; fails when model, data or options differ
  bool overwrite = false;      ///< replace an existing output folder
};

/// What the run will need, computed before it starts.
struct MemoryPlan {
  size_t weights = 0, activations = 0, hessians = 0, workspace = 0;  ///< bytes
  size_t baseline = 0;  ///< what the process holds before the run: libraries, tokenizer, calibration ids
  size_t peak() const { return weights + activations + hessians + workspace + baseline; }
};

MemoryPlan plan_memory(const ModelSpec& spec, const QuantizeOptions& options);

/// Quantizes. The output folder appears when everything is written; until then finished blocks stand in
/// OUT.partial, with a journal that a resumed run checks (model, calibration, recipe, version). Progress and
/// remarks go to `reporter`. The per-layer report is written as report.json. Throws Error.
void quantize(const QuantizeOptions& options, Reporter& reporter);

}  // namespace tessera
