// tessera verify: that the kernels compute what the format defines, and what the quantizer simulated.
#include <fmt/format.h>

#include <cmath>

#include "tessera/base/error.h"
#include "tessera/cli/commands.h"
#include "tessera/cli/model_folder.h"
#include "tessera/cli/quantizer_program.h"
#include "tessera/eval/kernel_check.h"
#include "tessera/eval/perplexity.h"
#include "tessera/eval/statistics.h"
#include "tessera/program/evaluation.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr int64_t kWindows = 8;
constexpr const char* kExample =
    "Examples:\n"
    "  tessera verify llama-qqq                                     the kernels alone\n"
    "  tessera verify llama-qqq llama-quik --text wiki.test.txt     the simulation, too\n"
    "Every linear layer runs on the same inputs in the reference arithmetic and in the kernels: on random\n"
    "and extreme tokens, and, given a text, on the model's own, there in libtorch as well. The whole model\n"
    "then runs on the text in libtorch, layer by layer with simulated quantization, and in the integer\n"
    "engine. Floats between the layers round differently in the two, and a code that flips changes all\n"
    "later ones: perplexities agree on average, the closer the finer the codes. The ± is paired.";

struct Options {
  std::vector<std::string> dirs;
  TextOptions text;
  bool markdown = false;
};

/// Why the simulation is left out; empty when it is not.
std::string not_simulated(const Options& o) {
  if (o.text.file.empty()) return "there is no --text to run it on";
  return find_quantizer().empty() ? quantizer_advice() : "";
}

/// What the quantizer's simulation of the model in `dir` gives (tessera-quantize simulate).
json simulate(const std::string& dir, const TextOptions& text, const GlobalOptions& global) {
  std::vector<std::string> arguments{"simulate", dir, "--text=" + text.file,
                                     "--max-windows=" + std::to_string(text.max_windows),
                                     "--device=" + text.device.name};
  if (text.window > 0) arguments.push_back("--window=" + std::to_string(text.window));
  return ask_quantizer(arguments, global);
}

/// Adds what simulation and engine make of the text to the result of the kernels.
void add_simulation(const std::string& dir, const TextOptions& text, const GlobalOptions& global,
                    Reporter& reporter, json& result) {
  const LoadedModel loaded = load_model(dir, text.device, reporter);
  const Windows windows = read_windows(text, *loaded.tokenizer, loaded.model->spec());
  const json simulation = simulate(dir, text, global);
  const Perplexity simulated = summarize(windows, simulation["window_nll"]);
  const Perplexity engine = measure_perplexity(*loaded.model, windows, reporter);
  std::vector<double> difference;
  for (size_t i = 0; i < engine.window_nll.size(); ++i)
    difference.push_back(engine.window_nll[i] - simulated.window_nll[i]);
  for (const char* key : {"outputs", "outputs_off"}) {  // on the model's own inputs
    result[key] = result[key].get<int64_t>() + simulation[key].get<int64_t>();
  }
  if (result["first_differing"] == "") result["first_differing"] = simulation["first_differing"];
  result.update({{"accumulators", simulation["accumulators"]},
                 {"accumulators_differing", simulation["accumulators_differing"]},
                 {"engine_perplexity", engine.value()},
                 {"simulated_perplexity", simulated.value()},
                 {"nll_difference", mean_error(difference).mean},
                 {"nll_difference_error", mean_error(difference).standard_error}});
}

json verify(const std::string& dir, const Options& o, const GlobalOptions& global, Reporter& reporter) {
  reporter.note(fmt::format("{}: kernels", dir));
  const KernelCheck kernels = check_kernels(dir, o.text.device.backend(), reporter);
  json result{{"model", dir},
              {"layers", kernels.layers},
              {"outputs", kernels.outputs},
              {"outputs_off", kernels.outputs_off},
              {"first_differing", kernels.first_off}};
  if (not_simulated(o).empty()) add_simulation(dir, o.text, global, reporter, result);
  return result;
}

Table table_of(const json& results, bool simulated) {
  Table table(simulated ? std::vector<std::string>{"model", "engine", "simulated", "difference", "layers",
                                                   "accumulators", "differing", "outputs", "outputs off"}
                        : std::vector<std::string>{"model", "layers", "outputs", "outputs off"});
  for (const json& r : results) {
    const auto count = [&](const char* key) { return std::to_string(r[key].get<int64_t>()); };
    std::vector<std::string> row{base_name(r["model"])};
    if (simulated) {
      const double engine = r["engine_perplexity"], simulation = r["simulated_perplexity"],
                   error = r["nll_difference_error"];
      row.insert(row.end(), {fmt::format("{:.3f}", engine), fmt::format("{:.3f}", simulation),
                             fmt::format("{:+.3f} % ± {:.3f}", 100 * (engine / simulation - 1), 100 * error),
                             count("layers"), count("accumulators"), count("accumulators_differing")});
    } else {
      row.push_back(count("layers"));
    }
    row.insert(row.end(), {count("outputs"), count("outputs_off")});
    table.add(row);
  }
  return table;
}

void run(const Options& o, const GlobalOptions& global) {
  TerminalReporter reporter(global.quiet);
  const std::string left_out = not_simulated(o);
  json results = json::array();
  for (const std::string& dir : o.dirs) results.push_back(verify(dir, o, global, reporter));
  if (global.json) {
    fmt::print("{}\n", json_text(results, 2));
  } else {
    const Table table = table_of(results, left_out.empty());
    fmt::print("{}\n", o.markdown ? table.markdown() : table.text());
  }
  if (!left_out.empty()) {
    fmt::print(global.json ? stderr : stdout, "Not checked: the quantizer's simulation; {}.\n", left_out);
  }
  for (const json& r : results) {
    const std::string first = r["first_differing"];
    if (first.empty()) continue;
    throw Error("{}: kernels and {} differ, first in {}; this is a defect of tessera, please report it",
                r["model"].get<std::string>(), left_out.empty() ? "simulation" : "reference", first);
  }
  if (!global.json) {
    fmt::print("Verdict: kernels{} and reference arithmetic agree in every layer.\n",
               left_out.empty() ? ", simulation" : "");
  }
}

}  // namespace

void add_verify(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command =
      add_command(app, "verify", "Check that the integer engine computes what the quantizer simulated");
  auto o = std::make_shared<Options>();
  o->text.max_windows = kWindows;
  command->footer(kExample);
  command->add_option("models", o->dirs, "Folders of quantized models")->required();
  command
      ->add_option("-t,--text", o->text.file,
                   "UTF-8 text file for the simulation (default: the kernels alone are checked)")
      ->check(CLI::ExistingFile);
  command
      ->add_option("--window", o->text.window, "Tokens a window (default: the model's context, at most 2048)")
      ->check(CLI::PositiveNumber);
  command->add_option("--max-windows", o->text.max_windows, "Windows that count")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  o->text.device.add_to(*command);
  command->add_flag("--markdown", o->markdown, "Table as Markdown");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
