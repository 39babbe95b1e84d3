// Quantization runs side by side.
#include "tessera/quant_cli/method_runs.h"

#include <fmt/format.h>

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/quant/run/quantizer.h"

namespace tessera {
namespace {

/// Why the recipe cannot run on this model; empty when it can.
std::string reason_against(const std::filesystem::path& model, const Recipe& recipe) {
  try {
    check_recipe(model, recipe);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

std::vector<MethodRun> quantize_each(const std::filesystem::path& model, const std::vector<Recipe>& recipes,
                                     const CalibrationSet& calibration, const std::filesystem::path& folder,
                                     Reporter& reporter) {
  std::vector<MethodRun> runs;
  for (const Recipe& recipe : recipes) {  // before hours are spent on the first
    runs.push_back({recipe.name, reason_against(model, recipe)});
    if (!runs.back().skipped.empty())
      reporter.note(fmt::format("{}: skipped: {}", recipe.name, runs.back().skipped));
  }
  if (std::ranges::none_of(runs, [](const MethodRun& run) { return run.skipped.empty(); }))
    throw Error("{}", runs.front().skipped);
  for (size_t i = 0; i < recipes.size(); ++i) {
    if (!runs[i].skipped.empty()) continue;
    QuantizeOptions options;
    options.model_dir = model;
    options.output_dir = folder / recipes[i].name;
    options.recipe = recipes[i];
    options.calibration = calibration;
    options.overwrite = true;
    options.resume = std::filesystem::exists(options.output_dir.string() + ".partial");
    const std::string output = options.output_dir.string();
    if (is_up_to_date(options)) {
      reporter.note(fmt::format("{}: kept from an earlier run", output));
    } else {
      reporter.note(fmt::format("{}: quantizing ({} of {})", output, i + 1, recipes.size()));
      quantize(options, reporter);
    }
  }
  return runs;
}

}  // namespace tessera
