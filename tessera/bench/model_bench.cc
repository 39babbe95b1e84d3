// Timing of whole models.
#include "tessera/bench/model_bench.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tessera/base/error.h"
#include "tessera/base/stopwatch.h"
#include "tessera/model/context.h"

namespace tessera {
namespace {

/// Seconds of each run of body().
template <class Body>
std::vector<double> samples_of(const Repetitions& repetitions, const Body& body) {
  body();
  std::vector<double> samples;
  const auto enough = [&](double total) {
    if (repetitions.samples > 0) return std::ssize(samples) == repetitions.samples;
    return !(total < repetitions.seconds) && samples.size() >= 3;  // also when they are no number
  };
  for (double total = 0; !enough(total); total += samples.back()) {
    const Stopwatch watch;
    body();
    samples.push_back(watch.seconds());
  }
  return samples;
}

/// Sets seconds and rates; a sample makes `tokens` tokens in `units` prompts or steps.
void summarize(ModelSpeed& speed, std::vector<double> samples, int64_t tokens, int64_t units) {
  std::vector<double> rates;
  rates.reserve(samples.size());
  for (double seconds : samples) rates.push_back(static_cast<double>(tokens) / seconds);
  const double mean = std::accumulate(rates.begin(), rates.end(), 0.0) / static_cast<double>(rates.size());
  double squares = 0;
  for (double rate : rates) squares += (rate - mean) * (rate - mean);
  if (rates.size() > 1) speed.rate_deviation = std::sqrt(squares / static_cast<double>(rates.size() - 1));
  speed.samples = samples;
  std::ranges::sort(samples);
  const double median = samples[samples.size() / 2];
  speed.seconds = median / static_cast<double>(units);
  speed.rate = static_cast<double>(tokens) / median;
}

/// Any ids do; these walk the whole vocabulary.
std::vector<int32_t> some_ids(int64_t count, int64_t vocab_size) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(vocab_size));
  }
  return ids;
}

/// Bytes of keys and values of one position.
double kv_bytes(const Model& model) {
  return static_cast<double>(model.kv_shape().page_bytes()) / static_cast<double>(kPageTokens);
}

double weight_bytes(const Model& model) {
  double bytes = 0;
  for (const LinearInfo& linear : model.linears()) bytes += static_cast<double>(linear.bytes);
  return bytes;
}

}  // namespace

std::string_view name_of(ModelSpeed::Phase phase) {
  return phase == ModelSpeed::Phase::kPrefill ? "prefill" : "decode";
}

ModelSpeed measure_prefill(Model& model, int64_t context, const Repetitions& repetitions) {
  Context sequence(model, context);
  const std::vector<int32_t> ids = some_ids(context, model.spec().vocab_size);
  ModelSpeed speed{.phase = ModelSpeed::Phase::kPrefill, .batch = 1, .context = context};
  summarize(speed,
            samples_of(repetitions,
                       [&] {
                         sequence.rewind(0);
                         sequence.forward(ids);
                       }),
            context, 1);
  speed.bytes_per_token = weight_bytes(model) / static_cast<double>(context) + kv_bytes(model);
  return speed;
}

ModelSpeed measure_decode(Model& model, int64_t batch, int64_t context, int64_t steps,
                          const Repetitions& repetitions) {
  if (batch < 1 || batch > model.max_rows()) {
    throw Error("a batch of {} is not possible: 1 to {} sequences run in a step", batch, model.max_rows());
  }
  const int64_t pages = pages_for(context + steps);
  const auto pool = model.make_kv_pool(batch * pages);  // zeros: what keys hold does not change the time
  const std::vector<int32_t> ids = some_ids(batch, model.spec().vocab_size);
  std::vector<Batch> batches(static_cast<size_t>(steps));
  for (int64_t i = 0; i < steps; ++i) {
    Batch& step = batches[static_cast<size_t>(i)];
    for (const int32_t& id : ids) {
      std::vector<int32_t> its_pages(static_cast<size_t>(pages));
      std::iota(its_pages.begin(), its_pages.end(), static_cast<int32_t>(step.rows() * pages));
      step.add({&id, 1}, context + i, its_pages, WantedLogits::all());
    }
  }
  std::vector<Draw> draws(static_cast<size_t>(batch));
  std::vector<int32_t> next(draws.size());
  ModelSpeed speed{.phase = ModelSpeed::Phase::kDecode, .batch = batch, .context = context};
  summarize(speed,
            samples_of(repetitions,
                       [&] {
                         for (const Batch& step : batches) {
                           model.step(step, *pool);
                           model.sample(0, draws, next);
                         }
                       }),
            batch * steps, steps);
  const double held = static_cast<double>(context) + static_cast<double>(steps + 1) / 2;  // in the mean
  speed.bytes_per_token = weight_bytes(model) / static_cast<double>(batch) + held * kv_bytes(model);
  return speed;
}

nlohmann::json Speeds::to_json() const {
  return {{"prefill_tokens_per_second", prefill.rate}, {"decode_tokens_per_second", decode.rate}};
}

Speeds measure_speeds(Model& model) {
  constexpr Repetitions kBrief{.seconds = 0.3};
  const int64_t context = std::min<int64_t>(256, model.spec().max_positions / 2);
  return {measure_prefill(model, context, kBrief), measure_decode(model, 1, context, 1, kBrief)};
}

double roofline_share(const Model& model, const ModelSpeed& speed, const MachineLimits& limits) {
  const bool decode = speed.phase == ModelSpeed::Phase::kDecode;
  double seconds = 0;
  for (const LinearInfo& linear : model.linears()) {
    const bool lm_head = &linear == &model.linears().back();
    const int64_t rows = decode ? speed.batch : lm_head ? 1 : speed.context;
    const bool floats = linear.kernel.activation_bits >= 16 || limits.integer_ops == 0;
    const double ops =
        2 * static_cast<double>(rows) * static_cast<double>(linear.n) * static_cast<double>(linear.k);
    seconds += std::max(static_cast<double>(linear.bytes) / limits.read_bandwidth,
                        ops / (floats ? limits.float_ops : limits.integer_ops));
  }
  if (decode) {
    seconds += static_cast<double>(speed.batch * speed.context) * kv_bytes(model) / limits.read_bandwidth;
  }
  return seconds / speed.seconds;
}

}  // namespace tessera
