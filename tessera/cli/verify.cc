// tessera verify: that the integer engine computes what the quantizer simulated.
#include <fmt/format.h>

#include <cmath>

#include "tessera/base/error.h"
#include "tessera/cli/command.h"
#include "tessera/cli/evaluation.h"
#include "tessera/cli/layer_check.h"
#include "tessera/eval/perplexity.h"
#include "tessera/eval/statistics.h"
#include "tessera/quant/fake_quant_model.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr int64_t kWindows = 8;
constexpr const char* kExample =
    "Example:\n  tessera verify llama-qqq llama-quik --text wiki.test.txt\n"
    "Every linear layer runs on the same inputs in the reference arithmetic, in libtorch and in the\n"
    "kernels; the whole model in libtorch, layer by layer with simulated quantization, and in the integer\n"
    "engine. Floats between the layers round differently in the two, and a code that flips changes all\n"
    "later ones: perplexities agree on average, the closer the finer the codes. The ± is paired.";

struct Options {
  std::vector<std::string> dirs;
  TextOptions text;
  bool markdown = false;
};

std::vector<std::vector<int32_t>> split(const Windows& windows) {
  std::vector<std::vector<int32_t>> out;
  for (int64_t i = 0; i < windows.count(); ++i) out.emplace_back(windows[i].begin(), windows[i].end());
  return out;
}

json verify(const std::string& dir, const TextOptions& text, Reporter& reporter) {
  const LoadedModel loaded = load_model(dir);
  const Windows windows = read_windows(text, loaded);
  const std::vector<std::vector<int32_t>> ids = split(windows);
  reporter.note(fmt::format("{}: layers", dir));
  const LayerCheck layers = check_layers(dir, ids.front(), default_backend());
  reporter.note(fmt::format("{}: simulation in libtorch, {} windows", dir, ids.size()));
  const Perplexity simulated = summarize(windows, window_nll(dir, ids));
  const Perplexity engine = measure_perplexity(*loaded.model, windows, reporter);
  std::vector<double> difference;
  for (size_t i = 0; i < ids.size(); ++i)
    difference.push_back(engine.window_nll[i] - simulated.window_nll[i]);
  return {{"model", dir},
          {"layers", layers.layers},
          {"accumulators", layers.accumulators},
          {"accumulators_differing", layers.differing},
          {"outputs", layers.outputs},
          {"outputs_off", layers.outputs_off},
          {"first_differing", layers.first_differing},
          {"engine_perplexity", engine.value()},
          {"simulated_perplexity", simulated.value()},
          {"nll_difference", mean_error(difference).mean},
          {"nll_difference_error", mean_error(difference).standard_error}};
}

Table table_of(const json& results) {
  Table table(
      {"model", "engine", "simulated", "difference", "layers", "accumulators", "differing", "outputs off"});
  for (const json& r : results) {
    const double engine = r["engine_perplexity"], simulated = r["simulated_perplexity"],
                 error = r["nll_difference_error"];
    const auto count = [&](const char* key) { return std::to_string(r[key].get<int64_t>()); };
    table.add({base_name(r["model"]), fmt::format("{:.3f}", engine), fmt::format("{:.3f}", simulated),
               fmt::format("{:+.3f} % ± {:.3f}", 100 * (engine / simulated - 1), 100 * error),
               count("layers"), count("accumulators"), count("accumulators_differing"),
               count("outputs_off")});
  }
  return table;
}

void run(const Options& o, const GlobalOptions& global) {
  TerminalReporter reporter(global.quiet);
  json results = json::array();
  for (const std::string& dir : o.dirs) results.push_back(verify(dir, o.text, reporter));
  if (global.json) {
    fmt::print("{}\n", results.dump(2));
  } else {
    const Table table = table_of(results);
    fmt::print("{}", o.markdown ? table.markdown() : table.text());
  }
  for (const json& r : results) {
    const std::string first = r["first_differing"];
    if (first.empty()) continue;
    throw Error(
        "{}: kernels and simulation differ, first in {}; this is a defect of tessera, please report it",
        r["model"].get<std::string>(), first);
  }
}

}  // namespace

void add_verify(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command =
      app.add_subcommand("verify", "Check that the integer engine computes what the quantizer simulated");
  auto o = std::make_shared<Options>();
  o->text.max_windows = kWindows;
  command->footer(kExample);
  command->add_option("models", o->dirs, "Folders of quantized models")->required();
  command->add_option("-t,--text", o->text.file, "UTF-8 text file")->required();
  command->add_option("--window", o->text.window, "Tokens a window (default: the model's context)")
      ->check(CLI::PositiveNumber);
  command->add_option("--max-windows", o->text.max_windows, "Windows that count")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--markdown", o->markdown, "Table as Markdown");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
