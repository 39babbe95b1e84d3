// Timing of whole models.
#include "tessera/bench/model_bench.h"

#include <algorithm>
#include <numeric>

#include "tessera/base/error.h"
#include "tessera/base/stopwatch.h"
#include "tessera/model/context.h"

namespace tessera {
namespace {

/// The median of body() repeated for about `seconds`, at least three times, behind one run that does not
/// count.
template <class Body>
double median_seconds(double seconds, const Body& body) {
  body();
  std::vector<double> times;
  for (double total = 0; total < seconds || times.size() < 3; total += times.back()) {
    const Stopwatch watch;
    body();
    times.push_back(watch.seconds());
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
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

ModelSpeed measure_prefill(Model& model, int64_t context, double seconds) {
  Context sequence(model, context);
  const std::vector<int32_t> ids = some_ids(context, model.spec().vocab_size);
  ModelSpeed speed{.phase = ModelSpeed::Phase::kPrefill, .batch = 1, .context = context};
  speed.seconds = median_seconds(seconds, [&] {
    sequence.rewind(0);
    sequence.forward(ids);
  });
  speed.rate = static_cast<double>(context) / speed.seconds;
  speed.bytes_per_token = weight_bytes(model) / static_cast<double>(context) + kv_bytes(model);
  return speed;
}

ModelSpeed measure_decode(Model& model, int64_t batch, int64_t context, double seconds) {
  if (batch < 1 || batch > model.max_rows()) {
    throw Error("a batch of {} is not possible: 1 to {} sequences run in a step", batch, model.max_rows());
  }
  const int64_t pages = pages_for(context + 1);
  const auto pool = model.make_kv_pool(batch * pages);  // zeros: what keys hold does not change the time
  Batch step;
  for (const int32_t id : some_ids(batch, model.spec().vocab_size)) {
    std::vector<int32_t> its_pages(static_cast<size_t>(pages));
    std::iota(its_pages.begin(), its_pages.end(), static_cast<int32_t>(step.rows() * pages));
    step.add({&id, 1}, context, its_pages, WantedLogits::all());
  }
  std::vector<Draw> draws(static_cast<size_t>(batch));
  std::vector<int32_t> next(draws.size());
  ModelSpeed speed{.phase = ModelSpeed::Phase::kDecode, .batch = batch, .context = context};
  speed.seconds = median_seconds(seconds, [&] {
    model.step(step, *pool);
    model.sample(0, draws, next);
  });
  const double keys_and_values = static_cast<double>(batch * (context + 1)) * kv_bytes(model);
  speed.rate = static_cast<double>(batch) / speed.seconds;
  speed.bytes_per_token = (weight_bytes(model) + keys_and_values) / static_cast<double>(batch);
  return speed;
}

nlohmann::json Speeds::to_json() const {
  return {{"prefill_tokens_per_second", prefill.rate}, {"decode_tokens_per_second", decode.rate}};
}

Speeds measure_speeds(Model& model) {
  constexpr double kSeconds = 0.3;
  const int64_t context = std::min<int64_t>(256, model.spec().max_positions / 2);
  return {measure_prefill(model, context, kSeconds), measure_decode(model, 1, context, kSeconds)};
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
