// tessera-quantize each: one model quantized with several methods.
#include <fmt/format.h>

#include <algorithm>

#include "tessera/base/json_node.h"
#include "tessera/program/calibration_request.h"
#include "tessera/program/terminal.h"
#include "tessera/quant_cli/calibration_source.h"
#include "tessera/quant_cli/commands.h"
#include "tessera/quant_cli/ending_line.h"
#include "tessera/quant_cli/method_runs.h"

namespace tessera {
namespace {

struct Options {
  std::string dir, work;
  std::vector<std::string> methods;
  int64_t group_size = 0;  ///< 0: the methods'
  CalibrationRequest calibration;
};

/// The method, in groups of `group_size` where it has groups and its name does not say of how many.
Recipe recipe_of(const std::string& name, int64_t group_size) {
  const Recipe recipe = method_recipe(name);
  const size_t settings = std::min(name.find('+'), name.size());
  const std::string method = name.substr(0, settings);
  const bool says_size = std::ranges::find(methods(), method, &Recipe::name) == methods().end();
  if (group_size == 0 || says_size || recipe.scheme.weight.group_size == 0) return recipe;
  return method_recipe(fmt::format("{}-g{}{}", method, group_size, name.substr(settings)));
}

std::vector<Recipe> recipes(const Options& o) {
  std::vector<std::string> names = o.methods;
  if (names == std::vector<std::string>{"all"}) {
    names.clear();
    for (const Recipe& recipe : methods()) names.push_back(recipe.name);
  }
  std::vector<Recipe> out;
  for (const std::string& name : names) out.push_back(recipe_of(name, o.group_size));
  return out;
}

void run(const Options& o, const GlobalOptions& global) {
  TerminalReporter reporter(global.quiet);
  const EndingLine ending("interrupted; the same command goes on");
  const std::vector<Recipe> wanted = recipes(o);
  const CalibrationSet calibration = make_calibration(o.dir, o.calibration);
  nlohmann::json out = nlohmann::json::array();
  for (const MethodRun& run : quantize_each(o.dir, wanted, calibration, o.work, reporter)) {
    out.push_back({{"method", run.method}, {"skipped", run.skipped}});
    if (!global.json)
      fmt::print("{}/{}{}\n", o.work, run.method, run.skipped.empty() ? "" : " skipped: " + run.skipped);
  }
  if (global.json) fmt::print("{}\n", json_text(out));
}

}  // namespace

void add_each(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command =
      add_command(app, "each", "Quantize a model with several methods and print the folders made");
  auto o = std::make_shared<Options>();
  command->footer(
      "Example:\n  tessera-quantize each Llama-2-7b --methods rtn-g128,qqq-g128 --work out/compare");
  command->add_option("model", o->dir, "Folder or GGUF file of the float checkpoint")->required();
  command
      ->add_option("--methods", o->methods,
                   "A list with commas, or 'all'; METHOD+SETTING changes one as quantize --set does")
      ->delimiter(',')
      ->required();
  command
      ->add_option("-g,--group-size", o->group_size,
                   "Inputs that share a weight scale, for methods that have groups (default: the method's)")
      ->check(CLI::PositiveNumber);
  command->add_option("--work", o->work, "Folder for the models; finished ones are kept")->required();
  o->calibration.add_to(*command);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
