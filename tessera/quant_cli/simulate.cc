// tessera-quantize simulate: a quantized model in libtorch, beside the reference arithmetic and the kernels.
#include <fmt/format.h>

#include "tessera/program/evaluation.h"
#include "tessera/program/terminal.h"
#include "tessera/quant/run/fake_quant_model.h"
#include "tessera/quant_cli/commands.h"
#include "tessera/quant_cli/simulation_check.h"

namespace tessera {
namespace {

struct Options {
  std::string dir;
  TextOptions text;
};

std::vector<std::vector<int32_t>> split(const Windows& windows) {
  std::vector<std::vector<int32_t>> out;
  for (int64_t i = 0; i < windows.count(); ++i) out.emplace_back(windows[i].begin(), windows[i].end());
  return out;
}

void run(const Options& o, const GlobalOptions& global) {
  TerminalReporter reporter(global.quiet);
  const auto ids =
      split(read_windows(o.text, *Tokenizer::load(o.dir), make_model_spec(ModelConfig::load(o.dir))));
  reporter.note(fmt::format("{}: layers", o.dir));
  const SimulationCheck check = check_simulation(o.dir, ids.front(), o.text.device.backend());
  reporter.note(fmt::format("{}: simulation in libtorch, {} windows", o.dir, ids.size()));
  const nlohmann::json out{{"layers", check.kernels.layers},
                           {"accumulators", check.accumulators},
                           {"accumulators_differing", check.differing},
                           {"outputs", check.kernels.outputs},
                           {"outputs_off", check.kernels.outputs_off},
                           {"first_differing", check.first_differing},
                           {"window_nll", window_nll(o.dir, ids)}};
  fmt::print("{}\n", json_text(out, 2));
}

}  // namespace

void add_simulate(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = add_command(
      app, "simulate", "Print, as JSON, what a quantized model computes in libtorch (see tessera verify)");
  auto o = std::make_shared<Options>();
  command->footer("Example:\n  tessera-quantize simulate llama-qqq --text wiki.test.txt");
  command->add_option("model", o->dir, "Folder of a quantized model")->required();
  command->add_option("-t,--text", o->text.file, "UTF-8 text file")->required();
  command
      ->add_option("--window", o->text.window, "Tokens a window (default: the model's context, at most 2048)")
      ->check(CLI::PositiveNumber);
  command->add_option("--max-windows", o->text.max_windows, "Only the first N windows")
      ->check(CLI::PositiveNumber);
  o->text.device.add_to(*command);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
