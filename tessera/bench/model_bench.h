// Times whole models: prefill and decode apart, beside the limits of the machine.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "tessera/bench/machine_limits.h"
#include "tessera/model/model.h"

namespace tessera {

/// One measurement. Prefill: one sequence of `context` ids from nothing. Decode: a step of `batch` sequences
/// that already hold `context` ids each.
struct ModelSpeed {
  enum class Phase : uint8_t { kPrefill, kDecode } phase = Phase::kPrefill;
  int64_t batch = 1, context = 0;
  double seconds = 0;                ///< of the prompt, or of a step: the median of the samples
  double rate = 0;                   ///< tokens a second, of all sequences together
  double rate_deviation = 0;         ///< sample deviation of the rate; 0 for one sample
  std::vector<double> samples = {};  ///< seconds, in the order in which they were measured
  /// Bytes of weights, keys and values that a step reads, divided by the tokens that it makes.
  double bytes_per_token = 0;
};

/// "prefill", "decode"
std::string_view name_of(ModelSpeed::Phase phase);

/// How often a point is measured, behind one run that does not count.
struct Repetitions {
  double seconds = 1;   ///< until they are used up, at least three times
  int64_t samples = 0;  ///< exactly so often, whatever it takes; 0: as `seconds` says
};

/// Measures one point. Throws Error when context and what is run do not fit in the model's positions.
ModelSpeed measure_prefill(Model& model, int64_t context, const Repetitions& repetitions);
/// A sample is `steps` steps in a row, the first behind `context` ids.
ModelSpeed measure_decode(Model& model, int64_t batch, int64_t context, int64_t steps,
                          const Repetitions& repetitions);

/// What a table of models shows: a prompt of 256 ids, or half of what the model has positions for, and one
/// sequence that goes on behind it.
struct Speeds {
  ModelSpeed prefill, decode;

  /// {"prefill_tokens_per_second": ..., "decode_tokens_per_second": ...}
  nlohmann::json to_json() const;
};
/// Takes about two seconds, longer where three prompts do.
Speeds measure_speeds(Model& model);

/// The share of `speed` that the limits allow. They ask for each layer the longer of reading its weights and
/// computing, and, in decode, for reading keys and values.
double roofline_share(const Model& model, const ModelSpeed& speed, const MachineLimits& limits);

}  // namespace tessera
