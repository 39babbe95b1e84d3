// Texts cut into windows, and perplexity as a table and as JSON.
#include "tessera/program/evaluation.h"

#include <fmt/format.h>

#include "tessera/base/error.h"
#include "tessera/base/stopwatch.h"
#include "tessera/program/terminal.h"
#include "tessera/program/text_file.h"

namespace tessera {

using nlohmann::json;

void TextOptions::add_to(CLI::App& command) {
  command.add_option("-t,--text", file, "UTF-8 text file")->required();
  command.add_option("--protocol", protocol, "gptq (disjoint windows, papers) or llama.cpp (second halves)")
      ->capture_default_str();
  command
      .add_option("--window", window,
                  "Tokens a window (default: the model's context, at most 2048, or 512 for llama.cpp)")
      ->check(CLI::PositiveNumber);
  command.add_option("--max-windows", max_windows, "Only the first N windows")->check(CLI::PositiveNumber);
  kv.add_to(command);
  device.add_to(command);
}

Windows read_windows(const TextOptions& options, const Tokenizer& tokenizer, const ModelSpec& spec) {
  const WindowOptions window{protocol_from_name(options.protocol), options.window, options.max_windows};
  const std::vector<int32_t> ids = encode_file(tokenizer, options.file, ids_wanted(window, spec));
  try {
    return cut_windows(ids, window, spec, tokenizer.adds_bos() ? tokenizer.bos_id() : std::nullopt);
  } catch (const Error& e) {
    throw Error("{}: {}", options.file, e.what());
  }
}

void check_text(const std::string& dir, const TextOptions& options) {
  read_windows(options, *Tokenizer::load(dir), make_model_spec(ModelConfig::load(dir)));
}

json to_json(const Perplexity& p) {
  return {{"perplexity", p.value()},
          {"perplexity_error", p.value_error()},
          {"mean_nll", p.mean_nll},
          {"standard_error", p.standard_error},
          {"predictions", p.predictions},
          {"protocol", name_of(p.protocol)},
          {"bos", bos_policy(p.protocol, p.bos)},
          {"window", p.window},
          {"window_nll", p.window_nll}};
}

json evaluate_perplexity(const std::vector<std::string>& dirs, const TextOptions& text,
                         const GlobalOptions& global, Reporter& reporter) {
  json out = json::array();
  Table table({"model", "perplexity", "+-", "predictions", "tokens/s"});
  std::string protocol;
  for (const std::string& dir : dirs) {
    const LoadedModel loaded = load_model(dir, text.device, reporter);
    text.kv.apply(*loaded.model);
    const Windows windows = read_windows(text, *loaded.tokenizer, loaded.model->spec());
    const Stopwatch watch;
    const Perplexity p = measure_perplexity(*loaded.model, windows, reporter);
    const double rate = static_cast<double>(windows.ids.size()) / watch.seconds();
    table.add({dir, fmt::format("{:.3f}", p.value()), fmt::format("{:.3f}", p.value_error()),
               std::to_string(p.predictions), fmt::format("{:.0f}", rate)});
    protocol = fmt::format("protocol {}: windows of {} tokens, {}", name_of(p.protocol), p.window,
                           bos_policy(p.protocol, p.bos));
    out.push_back(to_json(p));
    out.back()["model"] = dir;
    out.back()["tokens_per_second"] = rate;
  }
  if (!global.json) fmt::print("{}{}\n", table.text(), protocol);
  return out;
}

}  // namespace tessera
