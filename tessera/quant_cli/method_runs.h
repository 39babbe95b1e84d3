// Quantizing one model in several ways, side by side in one folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/quant/recipe/recipe.h"
#include "tessera/quant/run/calibration.h"

namespace tessera {

/// Quantizes `model` with every recipe into FOLDER/NAME of the recipe and returns those folders. A folder
/// that already holds the same result is kept, one that holds another is replaced, an interrupted run
/// resumes.
std::vector<std::string> quantize_each(const std::filesystem::path& model, const std::vector<Recipe>& recipes,
                                       const CalibrationSet& calibration, const std::filesystem::path& folder,
                                       Reporter& reporter);

}  // namespace tessera
