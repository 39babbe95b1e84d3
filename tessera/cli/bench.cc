// tessera bench: speed of single layers and of whole models, beside the limits of this machine.
#include <fmt/format.h>
#include <unistd.h>

#include <optional>

#include "tessera/base/cpu_info.h"
#include "tessera/base/stopwatch.h"
#include "tessera/bench/model_bench.h"
#include "tessera/bench/random_model.h"
#include "tessera/cli/commands.h"
#include "tessera/program/loaded_model.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

using nlohmann::json;

json limits_json(const MachineLimits& limits) {
  return {{"cpu", cpu_info().model},
          {"threads", limits.threads},
          {"integer_ops", limits.integer_ops},
          {"float_ops", limits.float_ops},
          {"read_bandwidth", limits.read_bandwidth}};
}

json result_json(const GemmResult& r) {
  return {{"m", r.shape.m},
          {"n", r.shape.n},
          {"k", r.shape.k},
          {"format", name_of(r.format)},
          {"kernel", r.kernel.kernel},
          {"isa", r.kernel.isa},
          {"runs", r.runs},
          {"median_seconds", r.median},
          {"minimum_seconds", r.minimum},
          {"bandwidth", r.bandwidth},
          {"ops", r.ops},
          {"roofline_share", r.roofline_share},
          {"speedup_over_f32", r.speedup}};
}

struct GemmOptions {
  std::vector<std::string> shapes, formats;
  double seconds = 0.3;
};

void run_gemm(const GemmOptions& o, const GlobalOptions& global) {
  GemmBenchOptions options{.isa = detect_cpu_isa(), .shapes = {}, .formats = {}, .seconds = o.seconds};
  for (const std::string& shape : o.shapes) options.shapes.push_back(gemm_shape_from_text(shape));
  for (const std::string& format : o.formats) options.formats.push_back(gemm_format_from_name(format));
  if (o.shapes.empty()) options.shapes = default_gemm_shapes();
  if (o.formats.empty()) options.formats = all_gemm_formats();
  const MachineLimits limits = measure_machine_limits(options.isa);
  const auto total = static_cast<int64_t>(options.shapes.size() * options.formats.size());
  TerminalReporter reporter(global.quiet);
  int64_t done = 0;
  reporter.progress("measuring, products", 0, total);
  const std::vector<GemmResult> results = bench_gemm(
      options, limits, [&](const GemmResult&) { reporter.progress("measuring, products", ++done, total); });

  json out{{"limits", limits_json(limits)}, {"results", json::array()}};
  Table table({"format", "M", "N", "K", "best us", "median us", "GB/s", "GOP/s", "of roofline", "vs f32"});
  for (const GemmResult& r : results) {
    out["results"].push_back(result_json(r));
    table.add({std::string(name_of(r.format)), std::to_string(r.shape.m), std::to_string(r.shape.n),
               std::to_string(r.shape.k), fmt::format("{:.0f}", r.minimum * 1e6),
               fmt::format("{:.0f}", r.median * 1e6), fmt::format("{:.1f}", r.bandwidth / 1e9),
               fmt::format("{:.0f}", r.ops / 1e9), fmt::format("{:.0f} %", 100 * r.roofline_share),
               fmt::format("{:.2f}x", r.speedup)});
  }
  if (global.json) {
    fmt::print("{}\n", json_text(out, 2));
    return;
  }
  fmt::print(
      "{}, {}, {} threads. Measured limits: int8 {:.0f} GOP/s, float {:.0f} GFLOP/s, memory {:.1f} "
      "GB/s.\n\n{}\n",
      cpu_info().model, name_of(options.isa), limits.threads, limits.integer_ops / 1e9,
      limits.float_ops / 1e9, limits.read_bandwidth / 1e9, table.text());
  fmt::print(
      "Input quantization included; weights always from memory (copies rotate). Roofline: the longer of "
      "reading the weights and "
      "computing, at the limits above. f32: the project's own float path.\n");
}

struct ModelOptions {
  std::vector<std::string> models;
  std::string format = "w4a8";
  DeviceOption device;
  KvOption kv;
  std::vector<int64_t> batches{1, 8, 32}, prompts{128, 512}, contexts{512};
  double seconds = 1;
};

/// A model folder or GGUF file, or a config.json alone, for which random weights are made and removed again.
class BenchModel {
 public:
  BenchModel(const std::string& name, const ModelOptions& o, Backend& backend) {
    std::filesystem::path dir = name;
    if (!is_gguf(dir) && !(std::filesystem::is_directory(dir) && holds_weights(dir))) {
      made_ = std::filesystem::temp_directory_path() / fmt::format("tessera_bench_{}", getpid());
      dir = made_;
      write_random_model(name, gemm_format_from_name(o.format), made_);
    }
    const Stopwatch watch;
    model_ = Model::load(dir, backend);
    load_seconds_ = watch.seconds();
    o.kv.apply(*model_);
  }
  ~BenchModel() {
    model_.reset();
    if (!made_.empty()) std::filesystem::remove_all(made_);
  }

  Model& model() { return *model_; }
  bool random() const { return !made_.empty(); }
  double load_seconds() const { return load_seconds_; }

 private:
  static bool holds_weights(const std::filesystem::path& dir) {
    return std::ranges::any_of(std::filesystem::directory_iterator(dir),
                               [](const auto& entry) { return entry.path().extension() == ".safetensors"; });
  }

  std::filesystem::path made_;  ///< empty: a model of the user's
  std::unique_ptr<Model> model_;
  double load_seconds_ = 0;
};

std::vector<ModelSpeed> measure_points(Model& model, const ModelOptions& o) {
  const int64_t most = model.spec().max_positions;
  std::vector<ModelSpeed> speeds;
  for (int64_t prompt : o.prompts) {
    if (prompt <= most) speeds.push_back(measure_prefill(model, prompt, o.seconds));
  }
  for (int64_t context : o.contexts) {
    for (int64_t batch : o.batches) {
      speeds.push_back(measure_decode(model, batch, std::min(context, most - 1), o.seconds));
    }
  }
  return speeds;
}

void run_model(const ModelOptions& o, const GlobalOptions& global) {
  Backend& backend = o.device.backend();
  // The limits are those of the processor; a GPU's are not measured.
  std::optional<MachineLimits> limits;
  if (o.device.name == "cpu") limits = measure_machine_limits(detect_cpu_isa());
  json out = {{"device", backend.name()}, {"models", json::array()}};
  if (limits) out["machine"] = limits_json(*limits);
  for (const std::string& name : o.models) {
    BenchModel bench(name, o, backend);
    const std::string weights = bench.random() ? "random " + o.format : "of the checkpoint";
    json rows = json::array();
    Table table({"phase", "batch", "context", "ms", "tok/s", "MB a token", "of roofline"});
    for (const ModelSpeed& s : measure_points(bench.model(), o)) {
      const double share = limits ? roofline_share(bench.model(), s, *limits) : 0;
      table.add({std::string(name_of(s.phase)), std::to_string(s.batch), std::to_string(s.context),
                 fmt::format("{:.2f}", s.seconds * 1e3), fmt::format("{:.1f}", s.rate),
                 fmt::format("{:.1f}", s.bytes_per_token / 1e6),
                 limits ? fmt::format("{:.0f} %", 100 * share) : "-"});
      rows.push_back({{"phase", name_of(s.phase)},
                      {"batch", s.batch},
                      {"context", s.context},
                      {"seconds", s.seconds},
                      {"tokens_per_second", s.rate},
                      {"bytes_per_token", s.bytes_per_token}});
      if (limits) rows.back()["roofline_share"] = share;
    }
    out["models"].push_back({{"model", name},
                             {"weights", weights},
                             {"load_seconds", bench.load_seconds()},
                             {"peak_memory", peak_memory()},
                             {"speeds", rows}});
    if (global.json) continue;
    fmt::print("{}, weights {}: loaded in {:.2f} s, peak memory {}\n{}\n", name, weights,
               bench.load_seconds(), format_bytes(peak_memory()), table.text());
  }
  if (global.json) {
    fmt::print("{}\n", json_text(out, 2));
    return;
  }
  fmt::print(
      "{}, {}. Prefill: one prompt from nothing. Decode: a step of `batch` sequences that hold `context` "
      "tokens "
      "each.\n",
      cpu_info().model, backend.name());
  if (!limits) return;
  fmt::print("Measured limits: int8 {:.0f} GOP/s, float {:.0f} GFLOP/s, memory {:.1f} GB/s.\n",
             limits->integer_ops / 1e9, limits->float_ops / 1e9, limits->read_bandwidth / 1e9);
}

}  // namespace

void add_bench(CLI::App& app, const GlobalOptions& global) {
  CLI::App* bench =
      app.add_subcommand("bench", "Measure speed: single layers (gemm) or whole models (model)");
  bench->require_subcommand(1);
  bench->footer(
      "Examples:\n  tessera bench gemm --shape 1x4096x4096 --shape 128x4096x4096\n  tessera bench model "
      "llama-qqq");

  CLI::App* gemm =
      bench->add_subcommand("gemm", "Integer layers beside the float path and the limits of this machine");
  auto g = std::make_shared<GemmOptions>();
  gemm->footer("Example:\n  tessera bench gemm --shape 128x4096x4096");
  gemm->add_option("--shape", g->shapes,
                   "MxNxK: tokens, outputs, inputs (may be repeated; default: a list of layers)");
  gemm->add_option("--format", g->formats,
                   "One of the formats of the table, such as w4a8 (may be repeated; default: all)");
  gemm->add_option("--seconds", g->seconds, "Time for each measurement")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  gemm->callback([g, &global] { run_gemm(*g, global); });

  CLI::App* model =
      bench->add_subcommand("model", "Prefill and decode of whole models, beside the limits of this machine");
  auto m = std::make_shared<ModelOptions>();
  model->footer(
      "Examples:\n  tessera bench model Llama-2-7b llama-qqq --batch 1,16\n"
      "  tessera bench model Llama-2-7b/config.json --format w4a8-g128   (random weights, no checkpoint "
      "needed)");
  model->add_option("models", m->models, "Model folders, GGUF files, or config.json files alone")->required();
  model->add_option("--format", m->format, "Random weights: a format of bench gemm")->capture_default_str();
  m->device.add_to(*model);
  m->kv.add_to(*model);
  const auto list = [model](const char* name, std::vector<int64_t>& values, const char* help) {
    model->add_option(name, values, help)->delimiter(',')->check(CLI::PositiveNumber)->capture_default_str();
  };
  list("--batch", m->batches, "Sequences that decode together");
  list("--prompt", m->prompts, "Tokens of a prefill; longer ones than the model's context are left out");
  list("--context", m->contexts, "Tokens that each sequence holds in decode, at most the model's context");
  model->add_option("--seconds", m->seconds, "Time for each measurement")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  model->callback([m, &global] { run_model(*m, global); });
}

}  // namespace tessera
