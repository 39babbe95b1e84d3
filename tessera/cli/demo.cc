// tessera demo: the whole story on one small model, with nothing from outside.
#include <fmt/format.h>

#include <filesystem>

#include "tessera/base/error.h"
#include "tessera/bench/model_bench.h"
#include "tessera/cli/commands.h"
#include "tessera/cli/model_folder.h"
#include "tessera/cli/quantize_each.h"
#include "tessera/engine/generator.h"
#include "tessera/engine/self_text.h"
#include "tessera/program/evaluation.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

using nlohmann::json;

struct Variant {
  const char* title;
  const char* method;
};

constexpr Variant kVariants[] = {{"W8A8 round-to-nearest", "rtn+weight.bits=8"},
                                 {"W4A8 round-to-nearest", "rtn"},
                                 {"QQQ", "qqq"},
                                 {"QQQ-g128", "qqq-g128"}};
constexpr const char* kPrompts[] = {"The history of the city begins in the early",
                                    "It was a cold morning when"};
constexpr uint64_t kCalibrationSeed = 1, kTestSeed = 2;

struct Options {
  std::string dir, output = "out/demo";
  CalibrationRequest calibration{.windows = 64, .tokens = 256, .seed = kCalibrationSeed};
  TextOptions text;
  int64_t test_windows = 48;
};

/// One row of the table.
struct Row {
  std::string name, dir;
  Speeds speeds;
};

/// The text to compare on: the file, or samples of the float model with a seed of their own.
Windows test_windows(const Options& o, const LoadedModel& reference, Reporter& reporter) {
  if (!o.text.file.empty()) return read_windows(o.text, *reference.tokenizer, reference.model->spec());
  const int64_t tokens = std::min<int64_t>(o.calibration.tokens, reference.model->spec().max_positions);
  Windows windows{.length = tokens, .ids = {}};
  windows.ids = sample_text(*reference.model, reference.tokenizer->bos_id().value_or(0),
                            {.windows = o.test_windows, .window = tokens, .seed = kTestSeed}, reporter);
  return windows;
}

std::vector<Row> quantize_all(const Options& o, const GlobalOptions& global) {
  std::vector<std::string> methods;
  for (const Variant& v : kVariants) methods.push_back(v.method);
  std::vector<Row> rows{{"float", o.dir, {}}};
  for (const MadeModel& made :
       quantize_each(o.dir, methods, /*group_size=*/0, o.calibration, o.output, global)) {
    if (!made.skipped.empty()) throw Error("{}", made.skipped);
    rows.push_back({kVariants[rows.size() - 1].title, made.folder, {}});
  }
  return rows;
}

json rows_json(const std::vector<Row>& rows, const Comparison& c) {
  json out = json::array();
  for (size_t i = 0; i < rows.size(); ++i) {
    const Perplexity& p = i == 0 ? c.reference : c.candidates[i - 1].perplexity;
    out.push_back({{"name", rows[i].name},
                   {"model", rows[i].dir},
                   {"perplexity", p.value()},
                   {"bytes", weight_bytes(rows[i].dir)}});
    out.back().update(rows[i].speeds.to_json());
    if (i == 0) continue;
    out.back()["kl"] = c.candidates[i - 1].kl.mean;
    out.back()["top1_agreement"] = c.candidates[i - 1].top_agreement;
  }
  return out;
}

void print_table(const std::vector<Row>& rows, const Comparison& c) {
  Table table({"model", "perplexity", "KL", "top-1", "size", "prefill tok/s", "decode tok/s"});
  for (size_t i = 0; i < rows.size(); ++i) {
    const ModelComparison* m = i == 0 ? nullptr : &c.candidates[i - 1];
    const Perplexity& p = m ? m->perplexity : c.reference;
    table.add({rows[i].name, fmt::format("{:.3f}", p.value()), m ? fmt::format("{:.4f}", m->kl.mean) : "-",
               m ? fmt::format("{:.1f} %", 100 * m->top_agreement) : "-",
               format_bytes(weight_bytes(rows[i].dir)), fmt::format("{:.0f}", rows[i].speeds.prefill.rate),
               fmt::format("{:.0f}", rows[i].speeds.decode.rate)});
  }
  fmt::print("\n{}", table.text());
}

void write_lines(const std::string& name, const std::string& dir) {
  Reporter silent;
  const LoadedModel loaded = load_model(dir, DeviceOption(), silent);
  Generator generator(*loaded.model, *loaded.tokenizer);
  fmt::print("\n{}\n", name);
  GenerateOptions options;
  options.max_tokens = 40;
  for (const char* prompt : kPrompts) {
    const Generation g = generator.generate(prompt, options);
    std::string line = g.text;
    std::ranges::replace(line, '\n', ' ');
    fmt::print("  {} |{}\n", prompt, line);
  }
}

void run(const Options& o, const GlobalOptions& global) {
  TerminalReporter reporter(global.quiet);
  std::vector<Row> rows = quantize_all(o, global);
  const LoadedModel reference = load_model(o.dir, o.text.device, reporter);
  std::vector<std::unique_ptr<Model>> models;
  std::vector<Model*> candidates;
  for (size_t i = 1; i < rows.size(); ++i) {
    models.push_back(load_weights(rows[i].dir, o.text.device, reporter));
    candidates.push_back(models.back().get());
  }
  const Windows windows = test_windows(o, reference, reporter);
  const Comparison c = compare_models(*reference.model, candidates, windows, reporter);
  for (size_t i = 0; i < rows.size(); ++i)
    rows[i].speeds = measure_speeds(i == 0 ? *reference.model : *candidates[i - 1]);
  if (global.json) {
    fmt::print("{}\n", json_text(rows_json(rows, c), 2));
    return;
  }
  print_table(rows, c);
  fmt::print(
      "{} windows of {} tokens {}; KL in nats a token against the float model; {}; prompts of {} tokens.\n",
      windows.count(), windows.length,
      o.text.file.empty() ? fmt::format("sampled from the float model (calibration seed {}, test seed {})",
                                        kCalibrationSeed, kTestSeed)
                          : fmt::format("of {}", o.text.file),
      o.text.device.backend().name(), rows[0].speeds.prefill.context);
  write_lines("float", o.dir);
  write_lines("QQQ", rows[3].dir);
  // The whole command: a newcomer has the program in no PATH yet.
  const auto program = std::filesystem::proximate(std::filesystem::read_symlink("/proc/self/exe"));
  fmt::print("\nTo serve it as OpenAI's API:  {} serve {}\n", program.string(), rows[3].dir);
}

}  // namespace

void add_demo(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command =
      add_command(app, "demo", "Quantize a small model in every format, compare, and write a few lines");
  auto o = std::make_shared<Options>();
  command->footer("Example:\n  tessera demo models/demo-llama");
  command->add_option("model", o->dir, "Folder of a small float checkpoint")->required();
  command->add_option("-o,--output", o->output, "Folder for the quantized models; finished ones are kept")
      ->capture_default_str();
  command->add_option("--calib", o->calibration.source, "Calibration text, or 'self'")->capture_default_str();
  command->add_option("-t,--text", o->text.file,
                      "Text to compare on (default: sampled from the float model)");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
