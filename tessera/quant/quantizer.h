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
  bool resume = false;         ///< continue the interrupted run where there is one; fails when model, data or
                               ///< options differ
  bool overwrite = false;      ///< replace an existing output folder, and an interrupted run unless resumed
};

/// Whether output_dir already holds what quantize() makes of this model, recipe and calibration.
bool is_up_to_date(const QuantizeOptions& options);

/// Quantizes. The output folder appears when everything is written; until then finished blocks stand in
/// OUT.partial, with a journal, so that a run that was killed at any moment can be resumed to the same bytes.
/// Everything that can be checked is checked before the first block. Progress and remarks (among them the
/// predicted and the measured peak of memory) go to `reporter`, the per-layer report to report.json. Throws
/// Error.
void quantize(const QuantizeOptions& options, Reporter& reporter);

}  // namespace tessera
