// The quantization run: checkpoint in, checkpoint out, one block in memory at a time.
#pragma once

#include <filesystem>
#include <string>

#include "tessera/base/reporter.h"
#include "tessera/quant/recipe/recipe.h"
#include "tessera/quant/run/calibration.h"

namespace tessera {

struct QuantizeOptions {
  std::filesystem::path model_dir, output_dir;
  Recipe recipe;
  CalibrationSet calibration;  ///< none, or one that is sampled, unless the recipe needs it
  std::string device = "cpu";  ///< "cpu", "cuda", "cuda:1"
  /// Continue the interrupted run where there is one. When model, data or options differ, or its files are
  /// damaged, that fails, or with `overwrite` starts afresh.
  bool resume = false;
  /// Replace an existing output folder that Tessera wrote, and an interrupted run unless resumed.
  bool overwrite = false;
};

/// Throws Error when the recipe does not fit the model: formats, passes, tensors. Takes no time.
void check_recipe(const std::filesystem::path& model_dir, const Recipe& recipe);

/// Whether output_dir already holds what quantize() makes of this model, recipe and calibration.
bool is_up_to_date(const QuantizeOptions& options);

/// Quantizes. The output folder appears when everything is written; until then finished blocks stand in
/// OUT.partial, with a journal, so that a run that was killed at any moment can be resumed to the same bytes;
/// resuming a complete one does nothing. One process at a time works on an output folder, and files that
/// Tessera did not write there are never removed. Everything that can be checked is checked before the
/// calibration text is sampled. Progress and remarks (among them the
/// predicted and the measured peak of memory) go to `reporter`, the per-layer report to report.json. Throws
/// Error.
void quantize(const QuantizeOptions& options, Reporter& reporter);

}  // namespace tessera
