// tessera-quantize each: one model quantized with several methods.
#include <fmt/ranges.h>

#include "tessera/program/calibration_request.h"
#include "tessera/program/terminal.h"
#include "tessera/quant_cli/calibration_source.h"
#include "tessera/quant_cli/commands.h"
#include "tessera/quant_cli/method_runs.h"

namespace tessera {
namespace {

struct Options {
  std::string dir, work;
  std::vector<std::string> methods;
  CalibrationRequest calibration;
};

std::vector<Recipe> recipes(const std::vector<std::string>& names) {
  if (names == std::vector<std::string>{"all"}) return methods();
  std::vector<Recipe> out;
  for (const std::string& name : names) out.push_back(method_recipe(name));
  return out;
}

void run(const Options& o, const GlobalOptions& global) {
  TerminalReporter reporter(global.quiet);
  const std::vector<Recipe> wanted = recipes(o.methods);
  const CalibrationSet calibration = make_calibration(o.dir, o.calibration);
  const std::vector<std::string> made = quantize_each(o.dir, wanted, calibration, o.work, reporter);
  if (global.json) {
    fmt::print("{}\n", nlohmann::json(made).dump());
  } else {
    fmt::print("{}\n", fmt::join(made, "\n"));
  }
}

}  // namespace

void add_each(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command =
      app.add_subcommand("each", "Quantize a model with several methods and print the folders made");
  auto o = std::make_shared<Options>();
  command->footer(
      "Example:\n  tessera-quantize each Llama-2-7b --methods rtn-g128,qqq-g128 --work out/compare");
  command->add_option("model", o->dir, "Folder or GGUF file of the float checkpoint")->required();
  command
      ->add_option("--methods", o->methods,
                   "A list with commas, or 'all'; METHOD+SETTING changes one as quantize --set does")
      ->delimiter(',')
      ->required();
  command->add_option("--work", o->work, "Folder for the models; finished ones are kept")->required();
  o->calibration.add_to(*command);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
