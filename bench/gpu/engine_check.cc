// Checks whole models on the GPU: block by block against the CPU, and against themselves alone, in batches,
// in chunks, from a recorded graph or not. Exit status 1 when something differs.
//   engine_check MODEL...             folders of models, against the CPU
//   engine_check --batches MODEL...   against themselves, too
//   engine_check families.json        small random models of every family and format, both ways
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <string>

#include "tessera/base/atomic_output.h"
#include "tessera/base/dtype.h"
#include "tessera/base/error.h"
#include "tessera/base/json_node.h"
#include "tessera/bench/random_model.h"
#include "tessera/engine/batch_engine.h"
#include "tessera/kernels/backends.h"
#include "tessera/model/context.h"

namespace tessera {
namespace {

constexpr int64_t kIds = 500;  ///< of a text; one step takes them
/// Error of a block on the GPU, as a multiple of what the same block makes on the CPU of noise in its input,
/// as large as if that were rounded to half precision: so the GPU rounds rows between layers, several times a
/// block. (`tessera verify --device cuda` holds integer linears to the bit.)
constexpr double kMostError = 5;
constexpr float kRoundoff = 0x1p-11f;  ///< of half precision, relative

std::vector<int32_t> random_ids(int64_t count, int64_t vocab_size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab_size));
  return ids;
}

/// A text that the model itself writes: what it meets in use.
std::vector<int32_t> own_text(Model& model, int64_t count) {
  std::vector<int32_t> ids = random_ids(1, model.spec().vocab_size, 1);
  BatchEngine engine(model, {.pages = pages_for_sequences(1, count)});
  engine.submit({.prompt = ids,
                 .sampling = {.temperature = 1, .seed = 1},
                 .max_tokens = count - 1,
                 .on_token = [&ids](int32_t id) { ids.push_back(id); }});
  while (engine.step()) {
  }
  return ids;
}

/// What a model computes of a text.
struct Trace {
  std::vector<std::vector<float>> hidden;  ///< the residual stream before each block, and behind the last
  std::vector<float> logits;
};

void add_noise(std::span<float> hidden) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> noise(-kRoundoff, kRoundoff);
  for (float& value : hidden) value += value * noise(random);
}

/// `observe` may change the residual stream.
Trace run(Model& model, std::span<const int32_t> ids, const HiddenObserver& observe) {
  Trace trace;
  model.observe([&](int64_t layer, std::span<float> hidden) {
    trace.hidden.emplace_back(hidden.begin(), hidden.end());
    if (observe) observe(layer, hidden);
  });
  Context context(model, std::ssize(ids));
  context.forward(ids, [&](int64_t, std::span<const float> rows) {
    trace.logits.insert(trace.logits.end(), rows.begin(), rows.end());
  });
  model.observe(nullptr);
  return trace;
}

/// Mean over rows of |got - want| / |want|.
double mean_error(size_t width, size_t rows, const auto& got, const auto& want) {
  double sum = 0;
  for (size_t i = 0; i < rows * width; i += width) {
    double error = 0, norm = 0;
    for (size_t j = i; j < i + width; ++j)
      error += std::pow(got(j) - want(j), 2), norm += std::pow(want(j), 2);
    sum += std::sqrt(error / norm);
  }
  return sum / static_cast<double>(rows);
}

/// Errors of every block, and of the logits, when each starts from the residual stream of `want`, or from
/// that and noise.
std::vector<double> layer_errors(Model& model, std::span<const int32_t> ids, const Trace& want, bool noise) {
  std::vector<std::vector<float>> start = want.hidden;
  if (noise) std::ranges::for_each(start, add_noise);
  const Trace got = run(model, ids, [&](int64_t layer, std::span<float> hidden) {
    std::ranges::copy(start[static_cast<size_t>(layer)], hidden.begin());
  });
  std::vector<double> errors;
  for (size_t layer = 1; layer < start.size(); ++layer) {
    const auto change = [&](size_t i) { return want.hidden[layer][i] - want.hidden[layer - 1][i]; };
    errors.push_back(mean_error(
        start[layer].size() / ids.size(), ids.size(),
        [&](size_t i) { return got.hidden[layer][i] - start[layer - 1][i]; }, change));
  }
  errors.push_back(mean_error(
      want.logits.size() / ids.size(), ids.size(), [&](size_t i) { return got.logits[i]; },
      [&](size_t i) { return want.logits[i]; }));
  return errors;
}

/// KL(p || q), mean over rows of logits.
double mean_divergence(std::span<const float> p, std::span<const float> q, size_t vocab) {
  const auto normalizer = [](std::span<const float> row) {
    const double most = *std::ranges::max_element(row);
    double sum = 0;
    for (float v : row) sum += std::exp(v - most);
    return most + std::log(sum);
  };
  double kl = 0;
  for (size_t row = 0; row < p.size(); row += vocab) {
    const double of_p = normalizer(p.subspan(row, vocab)), of_q = normalizer(q.subspan(row, vocab));
    for (size_t i = row; i < row + vocab; ++i) kl += std::exp(p[i] - of_p) * ((p[i] - of_p) - (q[i] - of_q));
  }
  return kl / static_cast<double>(p.size() / vocab);
}

/// Layer by layer, each from the CPU's input. The divergence of whole runs is shown beside it, and that of
/// the CPU from itself with noise between its blocks: where codes are few, one that falls the other way moves
/// many behind it.
bool agrees_with_cpu(Model& cpu, Model& cuda, KvFormat format) {
  for (Model* model : {&cpu, &cuda}) model->set_kv_format(format);
  const auto vocab = static_cast<size_t>(cpu.spec().vocab_size);
  const std::vector<int32_t> ids = own_text(cuda, std::min(kIds, cpu.spec().max_positions));
  const Trace want = run(cpu, ids, nullptr), whole = run(cuda, ids, nullptr),
              noisy = run(cpu, ids, [](int64_t, std::span<float> hidden) { add_noise(hidden); });
  const std::vector<double> errors = layer_errors(cuda, ids, want, false),
                            of_noise = layer_errors(cpu, ids, want, true);
  // A cache of few bits may round all noise away; what the block itself rounds stays.
  const double least = kRoundoff / std::sqrt(3.0);  // the root mean square of the noise
  const auto ratio = [&](size_t i) { return errors[i] / std::max(of_noise[i], least); };
  size_t worst = 0;
  bool good = true;
  for (size_t i = 0; i < errors.size(); ++i) {
    if (ratio(i) > ratio(worst)) worst = i;
    good = good && ratio(i) <= kMostError;  // false for NaN, too
  }
  fmt::print("  {} KV {}: {} errs by {:.1e}, {:.2f} of what noise does; mean KL {:.1e}, by noise {:.1e}\n",
             good ? "ok  " : "FAIL", name_of(format),
             worst + 1 < errors.size() ? fmt::format("block {} of {}", worst, errors.size() - 1) : "lm_head",
             errors[worst], ratio(worst), mean_divergence(want.logits, whole.logits, vocab),
             mean_divergence(want.logits, noisy.logits, vocab));
  return good;
}

/// What a run computed: the residual stream behind the last block of every row, and every text.
struct Outcome {
  std::set<std::string> rows;
  std::vector<std::vector<int32_t>> texts;
  SchedulerCounters counters;
};

class Requests {
 public:
  explicit Requests(Model& model) : model_(model) {
    const auto shared = random_ids(130, model.spec().vocab_size, 2);
    for (uint32_t i = 0; i < 64; ++i) {
      std::vector<int32_t> prompt = i % 2 == 0 ? shared : std::vector<int32_t>();
      const auto own = random_ids(1 + i * 37 % 300, model.spec().vocab_size, 100 + i);
      prompt.insert(prompt.end(), own.begin(), own.end());
      prompts_.push_back(std::move(prompt));
    }
  }

  /// `look`: at the residual stream, for which no step is recorded or replayed.
  Outcome run(EngineOptions options, int64_t together, bool look) const {
    Outcome outcome;
    outcome.texts.resize(prompts_.size());
    const auto width = static_cast<size_t>(model_.spec().hidden_size);
    if (look) {
      model_.observe([&](int64_t layer, std::span<const float> hidden) {
        if (layer < model_.spec().n_layers) return;
        for (size_t i = 0; i < hidden.size(); i += width) {
          const auto bytes = std::as_bytes(hidden.subspan(i, width));
          outcome.rows.emplace(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        }
      });
    }
    options.max_sequences = together;
    BatchEngine engine(model_, options);
    for (size_t i = 0; i < prompts_.size(); ++i) {
      engine.submit({.prompt = prompts_[i],
                     .sampling = {.temperature = i % 4 == 0 ? 0.0f : 1.0f, .seed = i},
                     .max_tokens = static_cast<int64_t>(5 + i % 40),
                     .on_token = [&outcome, i](int32_t id) { outcome.texts[i].push_back(id); }});
    }
    while (engine.step()) {
    }
    model_.observe(nullptr);
    outcome.counters = engine.scheduler().counters();
    return outcome;
  }

  bool are_invariant() const {
    const int64_t room = pages_for_sequences(64, 512);
    const Outcome alone = run({.step_tokens = 2048, .pages = room, .prefix_cache = false}, 1, true);
    bool good = true;
    const auto compare = [&](const Outcome& other, const std::string& what) {
      const bool same = other.texts == alone.texts && std::ranges::includes(alone.rows, other.rows);
      if (!same) {
        size_t strangers = 0;
        for (const std::string& row : other.rows) strangers += !alone.rows.contains(row);
        fmt::print("  FAIL {}: texts {}, {} of {} rows differ\n", what,
                   other.texts == alone.texts ? "equal" : "differ", strangers, other.rows.size());
      }
      good = good && same;
    };
    for (int64_t together : {2, 7, 64}) {
      for (int64_t chunk : {64, 100, 2048}) {
        compare(run({.step_tokens = chunk, .pages = room, .prefix_cache = false}, together, true),
                fmt::format("{} at once, chunks of {}", together, chunk));
      }
      compare(run({.step_tokens = 2048, .pages = room, .prefix_cache = false}, together, false),
              fmt::format("{} at once, recorded", together));
    }
    compare(run({.step_tokens = 128, .pages = room}, 16, true), "prefix cache");
    const Outcome crowded = run({.step_tokens = 256, .pages = 60, .prefix_cache = false}, 64, true);
    compare(crowded, fmt::format("{} preemptions", crowded.counters.preemptions));
    if (good) fmt::print("  {} rows of 64 prompts are the same bits in every batch\n", alone.rows.size());
    return good;
  }

 private:
  Model& model_;
  std::vector<std::vector<int32_t>> prompts_;
};

/// cuBLAS, and products of float outliers, add in an order that depends on the batch.
bool depends_on_batch(const Model& cuda) {
  return std::ranges::any_of(cuda.linears(), [](const LinearInfo& linear) {
    const std::string& kernel = linear.kernel.kernel;
    return kernel.find("cuBLAS") != std::string::npos || kernel.find("outliers") != std::string::npos;
  });
}

class Check {
 public:
  Check() : host_(make_backend("cpu")), device_(make_backend("cuda")) {
    fmt::print("{}, {}\n", host_->name(), device_->name());
  }

  bool good() const { return good_; }

  void model(const std::filesystem::path& dir, bool batches) {
    constexpr KvFormat kFormats[] = {KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4};
    fmt::print("{}\n", dir.string());
    const auto cpu = Model::load(dir, *host_), cuda = Model::load(dir, *device_);
    for (KvFormat format : kFormats) good_ = agrees_with_cpu(*cpu, *cuda, format) && good_;
    if (!batches || depends_on_batch(*cuda)) return;
    for (KvFormat format : kFormats) {
      cuda->set_kv_format(format);
      good_ = Requests(*cuda).are_invariant() && good_;
    }
  }

  void families(const std::filesystem::path& file) {
    const nlohmann::json families = read_json(file);
    for (const auto& [name, config] : families.items()) random_model(name, config, GemmFormat::kW4A8);
    for (GemmFormat format : all_gemm_formats()) random_model("llama", families.at("llama"), format);
  }

 private:
  void random_model(const std::string& name, const nlohmann::json& config, GemmFormat format) {
    const auto dir = std::filesystem::temp_directory_path() / fmt::format("engine_check-{}", getpid());
    std::filesystem::create_directories(dir);
    write_file(dir / "config.json", config.dump());
    const auto made = dir / fmt::format("{}-{}", name, name_of(format));
    write_random_model(dir, format, made);
    model(made, true);
    std::filesystem::remove_all(dir);
  }

  std::unique_ptr<Backend> host_, device_;
  bool good_ = true;
};

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) try {
  tessera::Check check;
  bool batches = false;
  for (const std::string_view argument : std::span(argv, static_cast<size_t>(argc)).subspan(1)) {
    if (argument == "--batches") {
      batches = true;
    } else if (argument.ends_with(".json")) {
      check.families(argument);
    } else {
      check.model(argument, batches);
    }
  }
  fmt::print("{}\n", check.good() ? "all as it should be" : "FAILED");
  return check.good() ? 0 : 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
