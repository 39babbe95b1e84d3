// Checks whole models on the GPU: against the CPU, and against themselves alone, in batches, in chunks, from
// a recorded graph or not. Exit status 1 when something differs.
//   engine_check MODEL...        folders of models; with the float model behind a colon, the divergence of
//   the
//                                devices is held against that of the two models
//   engine_check families.json   small models of random weights: every family, and every format
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <string>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/base/json_node.h"
#include "tessera/bench/random_model.h"
#include "tessera/engine/batch_engine.h"
#include "tessera/kernels/backends.h"
#include "tessera/model/context.h"

namespace tessera {
namespace {

constexpr int64_t kIds = 600;  ///< of a text
/// Mean divergence of the GPU's distribution from the CPU's: of a quantized model, whose codes flip where the
/// two round differently, and of floats.
constexpr double kMostKl = 0.002, kMostFloatKl = 1e-5;
/// The same as a share of what quantization itself costs. A flip of a 4-bit code is as large as its rounding
/// error, and flips breed flips: such models may be as far from themselves as from the float model.
constexpr double kMostShare = 0.3, kMostShareOfFourBits = 1;
/// Relative difference of logits of random weights, whose distributions say little and whose scores are so
/// large that a flip decides what a row attends to.
constexpr double kMostDifference = 0.2;

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

std::vector<float> all_logits(Model& model, std::span<const int32_t> ids) {
  Context context(model, std::ssize(ids));
  std::vector<float> all;
  context.forward(
      ids, [&](int64_t, std::span<const float> rows) { all.insert(all.end(), rows.begin(), rows.end()); });
  return all;
}

/// KL(p || q) of two rows of logits.
double divergence(std::span<const float> p, std::span<const float> q) {
  const auto normalizer = [](std::span<const float> row) {
    const double most = *std::ranges::max_element(row);
    double sum = 0;
    for (float v : row) sum += std::exp(v - most);
    return most + std::log(sum);
  };
  const double of_p = normalizer(p), of_q = normalizer(q);
  double kl = 0;
  for (size_t i = 0; i < p.size(); ++i) kl += std::exp(p[i] - of_p) * ((p[i] - of_p) - (q[i] - of_q));
  return kl;
}

bool is_float(const Model& model) {
  return model.linears().front().kernel.weight_bits >= 16;
}

int activation_bits(const Model& model) {
  int bits = 16;
  for (const LinearInfo& linear : model.linears()) bits = std::min(bits, linear.kernel.activation_bits);
  return bits;
}

/// `original`: the float model that `cpu` was made of, or null.
bool agrees_with_cpu(Model& cpu, Model& cuda, Model* original, bool random_weights, KvFormat format) {
  for (Model* model : {&cpu, &cuda, original}) {
    if (model) model->set_kv_format(format);
  }
  const int64_t count = std::min(kIds, cpu.spec().max_positions);
  const std::vector<int32_t> ids = own_text(cuda, count);
  const std::vector<float> want = all_logits(cpu, ids), got = all_logits(cuda, ids);
  const std::vector<float> floats = original ? all_logits(*original, ids) : std::vector<float>();
  const auto vocab = static_cast<size_t>(cpu.spec().vocab_size);
  double sum = 0, most = 0, of_quantization = 0, difference = 0, norm = 0;
  int64_t same = 0;
  for (size_t i = 0; i < want.size(); i += vocab) {
    const auto p = std::span(want).subspan(i, vocab), q = std::span(got).subspan(i, vocab);
    const double kl = divergence(p, q);
    sum += kl;
    most = std::max(most, std::isnan(kl) ? INFINITY : kl);
    same += std::ranges::max_element(p) - p.begin() == std::ranges::max_element(q) - q.begin();
    for (size_t j = 0; j < vocab; ++j) difference += std::pow(p[j] - q[j], 2), norm += std::pow(p[j], 2);
    if (original) of_quantization += divergence(std::span(floats).subspan(i, vocab), p);
  }
  const auto mean = [count](double of) { return of / static_cast<double>(count); };
  double bar = is_float(cpu) && format == KvFormat::kF16 ? kMostFloatKl : kMostKl;
  if (original) bar = mean(of_quantization) * (activation_bits(cpu) > 4 ? kMostShare : kMostShareOfFourBits);
  difference = std::sqrt(difference / norm);
  const bool good = random_weights ? difference <= kMostDifference : mean(sum) <= bar;
  fmt::print(
      "  {} KV {}: mean KL {:.2e} of at most {:.2e}, most {:.2e}, same likeliest id {:.1f} %, logits differ "
      "by "
      "{:.2e}\n",
      good ? "ok  " : "FAIL", name_of(format), mean(sum), bar, most,
      100 * static_cast<double>(same) / static_cast<double>(count), difference);
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

  void models(const std::string& argument) {
    const size_t colon = argument.find(':');
    const std::string dir = argument.substr(0, colon);
    fmt::print("{}\n", dir);
    const auto original =
        colon == std::string::npos ? nullptr : Model::load(argument.substr(colon + 1), *host_);
    model(dir, original.get(), false);
  }

  void families(const std::filesystem::path& file) {
    const nlohmann::json families = read_json(file);
    for (const auto& [name, config] : families.items()) random_model(name, config, GemmFormat::kW4A8);
    for (GemmFormat format : all_gemm_formats()) random_model("llama", families.at("llama"), format);
  }

 private:
  void random_model(const std::string& name, const nlohmann::json& config, GemmFormat format) {
    fmt::print("{}, random {}\n", name, name_of(format));
    const auto dir = std::filesystem::temp_directory_path() / fmt::format("engine_check-{}", getpid());
    std::filesystem::create_directories(dir);
    write_file(dir / "config.json", config.dump());
    write_random_model(dir, format, dir / "model");
    model(dir / "model", nullptr, true);
    std::filesystem::remove_all(dir);
  }

  void model(const std::filesystem::path& dir, Model* original, bool random_weights) {
    constexpr KvFormat kFormats[] = {KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4};
    const auto cpu = Model::load(dir, *host_), cuda = Model::load(dir, *device_);
    for (KvFormat format : kFormats)
      good_ = agrees_with_cpu(*cpu, *cuda, original, random_weights, format) && good_;
    if (depends_on_batch(*cuda)) return;
    for (KvFormat format : kFormats) {
      cuda->set_kv_format(format);
      good_ = Requests(*cuda).are_invariant() && good_;
    }
  }

  std::unique_ptr<Backend> host_, device_;
  bool good_ = true;
};

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) try {
  tessera::Check check;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).ends_with(".json")) {
      check.families(argv[i]);
    } else {
      check.models(argv[i]);
    }
  }
  fmt::print("{}\n", check.good() ? "all as it should be" : "FAILED");
  return check.good() ? 0 : 1;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
