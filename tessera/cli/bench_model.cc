// Prefill and decode of whole models at every point that is asked for.
#include "tessera/cli/bench_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <map>
#include <optional>

#include "tessera/base/cpu_info.h"
#include "tessera/base/parallel.h"
#include "tessera/base/stopwatch.h"
#include "tessera/bench/model_bench.h"
#include "tessera/bench/random_model.h"
#include "tessera/program/loaded_model.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

using nlohmann::json;

struct ModelOptions {
  std::vector<std::string> models;
  std::string format = "w4a8", lm_head = "float", keep;
  DeviceOption device;
  std::vector<int> kv_bits, threads;
  std::vector<int64_t> batches{1, 8, 32}, prompts{128, 512}, contexts;
  int64_t steps = 1;
  Repetitions repetitions;
};

/// A model folder or GGUF file, or a config.json alone, for which random weights are made, and removed again
/// unless they are to be kept.
class BenchModel {
 public:
  BenchModel(const std::string& name, const ModelOptions& o, Backend& backend) {
    std::filesystem::path dir = name;
    random_ = !is_gguf(dir) && !(std::filesystem::is_directory(dir) && holds_weights(dir));
    if (random_) {
      if (!std::filesystem::exists(name))
        throw Error("{}: no such model folder, GGUF file or config.json", name);
      dir = std::filesystem::temp_directory_path() / fmt::format("tessera_bench_{}", getpid());
      if (!o.keep.empty()) {
        if (std::filesystem::exists(o.keep)) throw Error("--keep {}: exists", o.keep);
        dir = o.keep;
      }
      write_random_model(name, gemm_format_from_name(o.format), dir, o.lm_head == "w8a8");
    }
    const Stopwatch watch;
    model_ = Model::load(dir, backend);
    load_seconds_ = watch.seconds();
    if (random_ && o.keep.empty())
      std::filesystem::remove_all(dir);  // mapped: what is in use stays until the end
  }

  Model& model() { return *model_; }
  bool random() const { return random_; }
  double load_seconds() const { return load_seconds_; }

 private:
  static bool holds_weights(const std::filesystem::path& dir) {
    return std::ranges::any_of(std::filesystem::directory_iterator(dir),
                               [](const auto& entry) { return entry.path().extension() == ".safetensors"; });
  }

  bool random_ = false;
  std::unique_ptr<Model> model_;
  double load_seconds_ = 0;
};

/// One row of the table: a speed, and what it was measured with.
struct Point {
  int threads = 0, kv_bits = 0;
  ModelSpeed speed;
};

std::vector<Point> measure_points(Model& model, const ModelOptions& o) {
  const int64_t most = model.spec().max_positions;
  std::vector<Point> points;
  for (const int threads : o.threads) {
    set_thread_count(threads);
    for (const int bits : o.kv_bits) {
      model.set_kv_format(kv_format_of_bits(bits, "--kv-bits"));
      const auto add = [&](ModelSpeed speed) { points.push_back({threads, bits, std::move(speed)}); };
      for (int64_t prompt : o.prompts) {
        if (prompt <= most) add(measure_prefill(model, prompt, o.repetitions));
      }
      for (int64_t context : o.contexts) {
        for (int64_t batch : o.batches) {
          add(measure_decode(model, batch, context, o.steps, o.repetitions));
        }
      }
    }
  }
  return points;
}

/// The options with what depends on the model. Throws Error when a depth leaves no room for the steps.
ModelOptions completed(ModelOptions o, const Model& model) {
  const int64_t most = model.spec().max_positions;
  if (o.kv_bits.empty()) o.kv_bits = {kv_bits(model.kv_format())};
  if (o.contexts.empty()) o.contexts = {std::clamp<int64_t>(most - o.steps, 0, 512)};
  for (int64_t context : o.contexts) {
    if (context + o.steps > most) {
      throw Error("{}: --context {} and --steps {} take more than the model's {} positions",
                  model.dir().string(), context, o.steps, most);
    }
  }
  return o;
}

/// Of the processor with each number of threads; a GPU's are not measured.
std::map<int, MachineLimits> measure_limits(const ModelOptions& o) {
  std::map<int, MachineLimits> limits;
  if (o.device.name != "cpu") return limits;
  for (const int threads : o.threads) {
    set_thread_count(threads);
    limits.emplace(threads, measure_machine_limits(detect_cpu_isa()));
  }
  return limits;
}

/// The points of one model as rows of a table and as JSON.
json report(const Model& model, const std::vector<Point>& points, const std::map<int, MachineLimits>& limits,
            Table& table) {
  json rows = json::array();
  for (const auto& [threads, bits, s] : points) {
    const auto limit = limits.find(threads);
    const double share = limit == limits.end() ? 0 : roofline_share(model, s, limit->second);
    table.add({std::string(name_of(s.phase)), std::to_string(s.batch), std::to_string(s.context),
               std::to_string(bits), std::to_string(threads), fmt::format("{:.2f}", s.seconds * 1e3),
               fmt::format("{:.1f} ± {:.1f}", s.rate, s.rate_deviation),
               fmt::format("{:.1f}", s.bytes_per_token / 1e6),
               limit == limits.end() ? "-" : fmt::format("{:.0f} %", 100 * share)});
    rows.push_back({{"phase", name_of(s.phase)},
                    {"batch", s.batch},
                    {"context", s.context},
                    {"kv_bits", bits},
                    {"threads", threads},
                    {"seconds", s.seconds},
                    {"samples", s.samples},
                    {"tokens_per_second", s.rate},
                    {"tokens_per_second_deviation", s.rate_deviation},
                    {"bytes_per_token", s.bytes_per_token}});
    if (limit != limits.end()) rows.back()["roofline_share"] = share;
  }
  return rows;
}

void run(ModelOptions o, const GlobalOptions& global) {
  if (!o.keep.empty() && o.models.size() > 1) throw Error("--keep: name one config.json");
  if (o.threads.empty()) o.threads = {thread_count()};
  const int most_threads = *std::ranges::max_element(o.threads);
  Backend& backend = o.device.backend();
  const std::map<int, MachineLimits> limits = measure_limits(o);
  set_thread_count(most_threads);
  const std::string device = backend.name();
  json out = {{"device", device}, {"models", json::array()}};
  for (const auto& entry : limits) out["machine"].push_back(to_json(entry.second));
  for (const std::string& name : o.models) {
    set_thread_count(most_threads);
    reset_peak_memory();  // the limits need more than many a model
    BenchModel bench(name, o, backend);
    const ModelOptions own = completed(o, bench.model());
    const std::string weights = bench.random()
                                    ? "random " + o.format + (o.lm_head == "w8a8" ? ", lm_head w8a8" : "")
                                    : "of the checkpoint";
    Table table(
        {"phase", "batch", "context", "kv bits", "threads", "ms", "tok/s", "MB a token", "of roofline"});
    const json rows = report(bench.model(), measure_points(bench.model(), own), limits, table);
    out["models"].push_back({{"model", name},
                             {"weights", weights},
                             {"load_seconds", bench.load_seconds()},
                             {"peak_memory", peak_memory()},
                             {"speeds", rows}});
    if (global.json) continue;
    fmt::print("{}, weights {}: loaded in {:.2f} s, peak memory {}\n{}\n", name, weights,
               bench.load_seconds(), format_bytes(peak_memory()), table.text());
  }
  if (global.json) return fmt::print("{}\n", json_text(out, 2));
  fmt::print(
      "{}, {}. Prefill: one prompt from nothing. Decode: a step of `batch` sequences that hold `context` "
      "tokens each. Medians, ± the "
      "deviation of the samples.\n",
      cpu_info().model, device);
  for (const auto& [threads, limit] : limits) {
    fmt::print("Measured limits, threads: {}: int8 {:.0f} GOP/s, float {:.0f} GFLOP/s, memory {:.1f} GB/s.\n",
               threads, limit.integer_ops / 1e9, limit.float_ops / 1e9, limit.read_bandwidth / 1e9);
  }
}

}  // namespace

void add_bench_model(CLI::App& bench, const GlobalOptions& global) {
  CLI::App* command =
      add_command(bench, "model", "Prefill and decode of whole models, beside the limits of this machine");
  auto o = std::make_shared<ModelOptions>();
  command->footer(
      "Examples:\n  tessera bench model Llama-2-7b llama-qqq --batch 1,16\n"
      "  tessera bench model llama-qqq -p 512,2048 -n 64 -d 0,2048 -r 5 --threads 1,2 --kv-bits 16,8\n"
      "  tessera bench model Llama-2-7b/config.json --format w4a8-g128   (random weights, no checkpoint "
      "needed)");
  command->add_option("models", o->models, "Model folders, GGUF files, or config.json files alone")
      ->required();
  command->add_option("--format", o->format, "Random weights: a format of bench gemm")->capture_default_str();
  command->add_option("--lm-head", o->lm_head, "Random weights of lm_head: float, or as best-w4a8 has them")
      ->check(CLI::IsMember({"float", "w8a8"}))
      ->capture_default_str();
  command->add_option("--keep", o->keep,
                      "A new folder where the model of random weights stays; of one config.json");
  o->device.add_to(*command);
  const auto list = [command](const char* name, auto& values, const char* help) {
    return command->add_option(name, values, help)->delimiter(',');
  };
  list("-b,--batch", o->batches, "Sequences that decode together")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  list("-p,--prompt", o->prompts, "Tokens of a prefill; longer ones than the model's context are left out")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  list("-d,--context", o->contexts,
       "Depth: tokens that each sequence holds when it decodes (default: 512, or what the model's context "
       "allows)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("-n,--steps", o->steps, "Tokens that a sample of decode makes for each sequence")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  list("--threads", o->threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  list("--kv-bits", o->kv_bits,
       "Bits of cached keys and values: 32 (CPU alone), 16, 8, 4 (default: what the model asks for)")
      ->check(CLI::IsMember({4, 8, 16, 32}));
  command->add_option("-r,--repeat", o->repetitions.samples, "Samples of each point, in place of --seconds")
      ->check(CLI::Range(1, 100'000));
  command->add_option("--seconds", o->repetitions.seconds, "Time for each point, at least three samples")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
