// Quantization runs side by side.
#include "tessera/quant_cli/method_runs.h"

#include <fmt/format.h>

#include "tessera/quant/run/quantizer.h"

namespace tessera {

std::vector<std::string> quantize_each(const std::filesystem::path& model, const std::vector<Recipe>& recipes,
                                       const CalibrationSet& calibration, const std::filesystem::path& folder,
                                       Reporter& reporter) {
  for (const Recipe& recipe : recipes) check_recipe(model, recipe);  // before hours are spent on the first
  std::vector<std::string> dirs;
  for (const Recipe& recipe : recipes) {
    QuantizeOptions options;
    options.model_dir = model;
    options.output_dir = folder / recipe.name;
    options.recipe = recipe;
    options.calibration = calibration;
    options.overwrite = true;
    options.resume = std::filesystem::exists(options.output_dir.string() + ".partial");
    dirs.push_back(options.output_dir.string());
    if (is_up_to_date(options)) {
      reporter.note(fmt::format("{}: kept from an earlier run", dirs.back()));
    } else {
      reporter.note(fmt::format("{}: quantizing ({} of {})", dirs.back(), dirs.size(), recipes.size()));
      quantize(options, reporter);
    }
  }
  return dirs;
}

}  // namespace tessera
