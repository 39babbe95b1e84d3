// Quantizing one model in several ways, side by side in one folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/quant/recipe/recipe.h"
#include "tessera/quant/run/calibration.h"

namespace tessera {

/// What became of a recipe.
struct MethodRun {
  std::string method;   ///< its name
  std::string skipped;  ///< why it cannot run on the model; empty: it has
};

/// Quantizes `model` with every recipe that can run on it into FOLDER/NAME of the recipe. A folder that
/// already holds the same result is kept, one that holds another is replaced, an interrupted run resumes.
/// Throws Error when no recipe can run.
std::vector<MethodRun> quantize_each(const std::filesystem::path& model, const std::vector<Recipe>& recipes,
                                     const CalibrationSet& calibration, const std::filesystem::path& folder,
                                     Reporter& reporter);

}  // namespace tessera
