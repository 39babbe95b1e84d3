// tessera compare: what quantization cost, against the float model, on the same windows.
#include <fmt/format.h>

#include "tessera/cli/command.h"
#include "tessera/cli/evaluation.h"

namespace tessera {
namespace {

using nlohmann::json;

struct Options {
  std::vector<std::string> dirs;
  TextOptions text;
  bool markdown = false, layers = false;
};

std::string base_name(const std::string& dir) {
  const std::filesystem::path path(dir);
  return (path.has_filename() ? path.filename() : path.parent_path().filename()).string();
}

json to_json(const Distribution& d) {
  return {{"mean", d.mean},
          {"standard_error", d.standard_error},
          {"median", d.median},
          {"percentile_99", d.percentile_99},
          {"max", d.max}};
}

json result_json(const Options& o, const Comparison& c) {
  json candidates = json::array();
  for (size_t i = 0; i < c.candidates.size(); ++i) {
    const ModelComparison& m = c.candidates[i];
    candidates.push_back({{"model", o.dirs[i + 1]},
                          {"perplexity", to_json(m.perplexity)},
                          {"nll_difference", m.nll_difference.mean},
                          {"nll_difference_error", m.nll_difference.standard_error},
                          {"kl", to_json(m.kl)},
                          {"top1_agreement", m.top_agreement},
                          {"layer_error", m.layer_error}});
  }
  return {{"reference", {{"model", o.dirs[0]}, {"perplexity", to_json(c.reference)}}},
          {"candidates", candidates}};
}

Table summary_table(const Options& o, const Comparison& c) {
  Table table({"model", "perplexity", "vs float", "KL mean", "KL median", "KL 99 %", "KL max", "top-1",
               "layer error", "size"});
  const double reference = c.reference.value();
  table.add({base_name(o.dirs[0]), fmt::format("{:.3f}", reference), "", "", "", "", "", "", "",
             format_bytes(weight_bytes(o.dirs[0]))});
  for (size_t i = 0; i < c.candidates.size(); ++i) {
    const ModelComparison& m = c.candidates[i];
    const double ratio = m.perplexity.value() / reference;
    table.add(
        {base_name(o.dirs[i + 1]), fmt::format("{:.3f}", m.perplexity.value()),
         fmt::format("{:+.2f} % ± {:.2f}", 100 * (ratio - 1), 100 * ratio * m.nll_difference.standard_error),
         fmt::format("{:.4f}", m.kl.mean), fmt::format("{:.4f}", m.kl.median),
         fmt::format("{:.3f}", m.kl.percentile_99), fmt::format("{:.2f}", m.kl.max),
         fmt::format("{:.2f} %", 100 * m.top_agreement), fmt::format("{:.3f}", m.layer_error.back()),
         format_bytes(weight_bytes(o.dirs[i + 1]))});
  }
  return table;
}

Table layer_table(const Options& o, const Comparison& c) {
  std::vector<std::string> header{"error behind block"};
  for (size_t i = 0; i < c.candidates.size(); ++i) header.push_back(base_name(o.dirs[i + 1]));
  Table table(header);
  for (size_t layer = 0; layer < c.candidates.front().layer_error.size(); ++layer) {
    std::vector<std::string> row{std::to_string(layer)};
    for (const ModelComparison& m : c.candidates) row.push_back(fmt::format("{:.4f}", m.layer_error[layer]));
    table.add(row);
  }
  return table;
}

void print(const Options& o, const Comparison& c) {
  const auto render = [&](const Table& t) { return o.markdown ? t.markdown() : t.text(); };
  fmt::print("{}", render(summary_table(o, c)));
  fmt::print(
      "\nProtocol {}: {} windows of {} tokens, {}; perplexity of the reference +- {:.3f}. The +- of 'vs "
      "float' is paired. KL in "
      "nats a token. Layer error: relative error of the residual stream behind the last block.\n",
      name_of(c.reference.protocol), c.reference.window_nll.size(), c.reference.window,
      bos_policy(c.reference.protocol), c.reference.value_error());
  if (o.layers) fmt::print("\n{}", render(layer_table(o, c)));
}

void run(const Options& o, const GlobalOptions& global) {
  TerminalReporter reporter(global.quiet);
  const LoadedModel reference = load_model(o.dirs[0]);
  std::vector<std::unique_ptr<Model>> models;
  std::vector<Model*> candidates;
  for (size_t i = 1; i < o.dirs.size(); ++i) {
    models.push_back(Model::load(o.dirs[i], default_backend()));
    candidates.push_back(models.back().get());
  }
  const Comparison c =
      compare_models(*reference.model, candidates, read_windows(o.text, reference), reporter);
  if (global.json) {
    fmt::print("{}\n", result_json(o, c).dump(2));
  } else {
    print(o, c);
  }
}

}  // namespace

void add_compare(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command =
      app.add_subcommand("compare", "Compare quantized models with the float model on a text");
  auto o = std::make_shared<Options>();
  command->footer(
      "Example:\n  tessera compare Llama-2-7b llama-qqq llama-qqq-g128 --text wiki.test.txt\n"
      "Perplexity, KL divergence, agreement of the likeliest token, and how far each block's output is off.");
  command->add_option("models", o->dirs, "The float model's folder, then the quantized ones")
      ->required()
      ->expected(2, 64);
  o->text.add_to(*command);
  command->add_flag("--layers", o->layers, "Also the error behind every block (always in --json)");
  command->add_flag("--markdown", o->markdown, "Tables as Markdown");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
