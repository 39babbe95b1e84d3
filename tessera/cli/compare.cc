// tessera compare: what quantization cost, against the float model, on the same windows.
#include <fmt/format.h>

#include <algorithm>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/bench/model_bench.h"
#include "tessera/cli/commands.h"
#include "tessera/cli/comparison_page.h"
#include "tessera/cli/model_folder.h"
#include "tessera/cli/quantize_each.h"
#include "tessera/format/quantization_config.h"
#include "tessera/program/evaluation.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr const char* kExample =
    "Examples:\n"
    "  tessera compare Llama-2-7b llama-qqq llama-qqq-g128 --text wiki.test.txt\n"
    "  tessera compare Llama-2-7b --methods all --calib text.txt --text wiki.test.txt --html methods.html\n"
    "  tessera compare Llama-2-7b --methods rtn-g128,qqq-g128,quik+outliers.count=64 --text wiki.test.txt\n"
    "Perplexity, KL divergence, agreement of the likeliest token, and how far each block's output is off; "
    "with\n"
    "--speed also tokens a second.";

struct Options {
  std::vector<std::string> dirs;
  std::vector<std::string> methods;
  int64_t group_size = 0;
  CalibrationRequest calibration;
  std::string work = "out/compare", page;
  TextOptions text;
  bool markdown = false, layers = false, speed = false;
};

/// The models of one comparison, the float one first.
struct Contest {
  std::vector<std::string> dirs;
  LoadedModel reference;
  std::vector<std::unique_ptr<Model>> candidates;
  Comparison result = {};
  std::vector<Speeds> speeds = {};      ///< of all models; empty unless asked for
  std::vector<MadeModel> skipped = {};  ///< methods that cannot run on the model

  const Model& model(size_t i) const { return i == 0 ? *reference.model : *candidates[i - 1]; }
};

json to_json(const Distribution& d) {
  return {{"mean", d.mean},
          {"standard_error", d.standard_error},
          {"median", d.median},
          {"percentile_99", d.percentile_99},
          {"max", d.max}};
}

/// Stored bits, scales and all, for each weight of the decoder's linear layers.
double bits_per_weight(const Model& model) {
  double bits = 0, weights = 0;
  for (const LinearInfo& linear : model.linears()) {
    if (!linear.name.starts_with(model.spec().block_prefix)) continue;
    bits += 8.0 * static_cast<double>(linear.bytes);
    weights += static_cast<double>(linear.n * linear.k);
  }
  return bits / weights;
}

/// Whether the residual stream of this model has another basis than the float model's, so that the distance
/// of the two says nothing.
bool is_rotated(const std::string& dir) {
  const auto quantization = read_quantization_config(ModelConfig::load(dir));
  if (!quantization || quantization->recipe.is_null()) return false;
  const json passes = quantization->recipe.value("passes", json::array());
  return std::ranges::any_of(passes, [](const json& step) { return step.value("pass", "") == "rotate"; });
}

json model_json(const Contest& contest, size_t i) {
  json out{{"model", contest.dirs[i]},
           {"bits", bits_per_weight(contest.model(i))},
           {"bytes", weight_bytes(contest.dirs[i])}};
  if (!contest.speeds.empty()) out.update(contest.speeds[i].to_json());
  return out;
}

json result_json(const Contest& contest) {
  json candidates = json::array(), reference = model_json(contest, 0);
  reference["perplexity"] = to_json(contest.result.reference);
  for (size_t i = 0; i < contest.result.candidates.size(); ++i) {
    const ModelComparison& m = contest.result.candidates[i];
    candidates.push_back(model_json(contest, i + 1));
    candidates.back().update(
        {{"perplexity", to_json(m.perplexity)},
         {"nll_difference", m.nll_difference.mean},
         {"nll_difference_error", m.nll_difference.standard_error},
         {"kl", to_json(m.kl)},
         {"top1_agreement", m.top_agreement},
         {"layer_error", is_rotated(contest.dirs[i + 1]) ? json() : json(m.layer_error)}});
  }
  json skipped = json::array();
  for (const MadeModel& made : contest.skipped)
    skipped.push_back({{"method", made.method}, {"reason", made.skipped}});
  return {{"reference", reference}, {"candidates", candidates}, {"skipped", skipped}};
}

/// The channel maxima of every block that report.json in `dir` holds; null without them.
json channel_maxima(const std::string& dir) {
  const std::filesystem::path file = std::filesystem::path(dir) / "report.json";
  if (!std::filesystem::exists(file)) return nullptr;
  const json report = json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  json out = json::array();
  for (const json& block : report.value("blocks", json::array())) {
    out.push_back(block.value("/passes/channel_absmax"_json_pointer, json::array()));
  }
  return out;
}

void write_page(const Options& o, const Contest& contest) {
  json data = result_json(contest);
  for (size_t i = 0; i < contest.candidates.size(); ++i) {
    data["candidates"][i]["channel_absmax"] = channel_maxima(contest.dirs[i + 1]);
  }
  write_comparison_page(o.page, data);
}

Table summary_table(const Contest& contest) {
  const std::vector<std::string>& dirs = contest.dirs;
  const Comparison& c = contest.result;
  std::vector<std::string> header{"model",  "perplexity", "vs float",    "KL mean", "KL median", "KL 99 %",
                                  "KL max", "top-1",      "layer error", "bits",    "size"};
  if (!contest.speeds.empty()) header.insert(header.end(), {"prefill tok/s", "decode tok/s"});
  Table table(header);
  const auto add = [&](size_t i, std::vector<std::string> quality) {
    quality.insert(quality.begin(), base_name(dirs[i]));
    quality.push_back(fmt::format("{:.2f}", bits_per_weight(contest.model(i))));
    quality.push_back(format_bytes(weight_bytes(dirs[i])));
    if (!contest.speeds.empty()) {
      quality.push_back(fmt::format("{:.0f}", contest.speeds[i].prefill.rate));
      quality.push_back(fmt::format("{:.0f}", contest.speeds[i].decode.rate));
    }
    table.add(quality);
  };
  const double reference = c.reference.value();
  add(0, {fmt::format("{:.3f}", reference), "", "", "", "", "", "", ""});
  for (size_t i = 0; i < c.candidates.size(); ++i) {
    const ModelComparison& m = c.candidates[i];
    const double ratio = m.perplexity.value() / reference;
    add(i + 1,
        {fmt::format("{:.3f}", m.perplexity.value()),
         fmt::format("{:+.2f} % ± {:.2f}", 100 * (ratio - 1), 100 * ratio * m.nll_difference.standard_error),
         fmt::format("{:.4f}", m.kl.mean), fmt::format("{:.4f}", m.kl.median),
         fmt::format("{:.3f}", m.kl.percentile_99), fmt::format("{:.2f}", m.kl.max),
         fmt::format("{:.2f} %", 100 * m.top_agreement),
         is_rotated(dirs[i + 1]) ? "-" : fmt::format("{:.3f}", m.layer_error.back())});
  }
  return table;
}

Table layer_table(const Contest& contest) {
  const std::vector<std::string>& dirs = contest.dirs;
  const Comparison& c = contest.result;
  std::vector<std::string> header{"error behind block"};
  for (size_t i = 0; i < c.candidates.size(); ++i) header.push_back(base_name(dirs[i + 1]));
  Table table(header);
  for (size_t layer = 0; layer < c.candidates.front().layer_error.size(); ++layer) {
    std::vector<std::string> row{std::to_string(layer)};
    for (size_t i = 0; i < c.candidates.size(); ++i) {
      row.push_back(is_rotated(dirs[i + 1]) ? "-"
                                            : fmt::format("{:.4f}", c.candidates[i].layer_error[layer]));
    }
    table.add(row);
  }
  return table;
}

void print(const Options& o, const Contest& contest) {
  const Comparison& c = contest.result;
  const auto render = [&](const Table& t) { return o.markdown ? t.markdown() : t.text(); };
  fmt::print("{}", render(summary_table(contest)));
  for (const MadeModel& made : contest.skipped) fmt::print("{}: skipped: {}\n", made.method, made.skipped);
  fmt::print(
      "\nProtocol {}: {} windows of {} tokens, {}; perplexity of the reference +- {:.3f}. The +- of 'vs "
      "float' is paired. KL in "
      "nats a token. Layer error: relative error of the residual stream behind the last block, the median "
      "over tokens; a rotated "
      "model's has another basis.\n",
      name_of(c.reference.protocol), c.reference.window_nll.size(), c.reference.window,
      bos_policy(c.reference.protocol, c.reference.bos), c.reference.value_error());
  if (!contest.speeds.empty()) {
    fmt::print("Speed: a prompt of {} tokens, then one sequence behind it, on {}.\n",
               contest.speeds.front().prefill.context, o.text.device.backend().name());
  }
  if (o.layers) fmt::print("\n{}", render(layer_table(contest)));
}

/// What can be said before anything is loaded.
void check_request(const Options& o) {
  if (o.dirs.size() < 2 && o.methods.empty()) {
    throw Error("nothing to compare with: name quantized models, or --methods to make them");
  }
  const auto is_float = [](const std::string& dir) {
    return ModelConfig::load(dir).quantization().is_null();
  };
  const auto other = std::find_if(o.dirs.begin() + 1, o.dirs.end(), is_float);
  if (!is_float(o.dirs[0]) && other != o.dirs.end()) {
    throw Error(
        "{} is quantized and {} is not: name the float model, which the others are compared with, first",
        o.dirs[0], *other);
  }
  if (!o.page.empty()) check_can_write(o.page);
}

void run(const Options& o, const GlobalOptions& global) {
  check_request(o);
  TerminalReporter reporter(global.quiet);
  Contest contest{
      .dirs = o.dirs, .reference = load_model(o.dirs[0], o.text.device, reporter), .candidates = {}};
  const Windows windows = read_windows(o.text, *contest.reference.tokenizer, contest.reference.model->spec());
  if (!o.methods.empty()) {
    for (MadeModel& made : quantize_each(o.dirs[0], o.methods, o.group_size, o.calibration, o.work, global)) {
      if (made.skipped.empty()) {
        contest.dirs.push_back(std::move(made.folder));
      } else {
        contest.skipped.push_back(std::move(made));
      }
    }
  }
  std::vector<Model*> candidates;
  for (size_t i = 1; i < contest.dirs.size(); ++i) {
    contest.candidates.push_back(load_weights(contest.dirs[i], o.text.device, reporter));
    o.text.kv.apply(*contest.candidates.back());
    candidates.push_back(contest.candidates.back().get());
  }
  contest.result = compare_models(*contest.reference.model, candidates, windows, reporter);
  if (o.speed) {
    for (size_t i = 0; i < contest.dirs.size(); ++i) {
      reporter.note(fmt::format("measuring the speed of {}", contest.dirs[i]));
      contest.speeds.push_back(measure_speeds(i == 0 ? *contest.reference.model : *candidates[i - 1]));
    }
  }
  if (!o.page.empty()) write_page(o, contest);
  if (global.json) {
    fmt::print("{}\n", json_text(result_json(contest), 2));
  } else {
    print(o, contest);
  }
}

}  // namespace

void add_compare(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = add_command(app, "compare", "Compare quantized models with the float model on a text");
  auto o = std::make_shared<Options>();
  command->footer(kExample);
  command->add_option("models", o->dirs, "The float model, a folder or a GGUF file, then quantized ones")
      ->required()
      ->expected(1, 64);
  o->text.add_to(*command);
  command
      ->add_option("--methods", o->methods,
                   "Quantize with these methods first: a list with commas, or 'all' (see tessera methods; "
                   "METHOD+SETTING changes one as quantize --set does)")
      ->delimiter(',');
  command
      ->add_option("-g,--group-size", o->group_size,
                   "With --methods: inputs that share a weight scale, for methods that have groups")
      ->check(CLI::PositiveNumber);
  o->calibration.add_to(*command);
  command->add_option("--work", o->work, "Folder for the models that --methods makes; finished ones are kept")
      ->capture_default_str();
  command->add_option("--html", o->page, "Also write the comparison as a page with plots");
  command->add_flag("--speed", o->speed, "Also tokens a second, in prefill and in decode");
  command->add_flag("--layers", o->layers, "Also the error behind every block (always in --json)");
  command->add_flag("--markdown", o->markdown, "Tables as Markdown");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
