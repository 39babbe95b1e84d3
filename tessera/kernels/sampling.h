// From logits to the next token: options, and the definition that every device follows.
#pragma once

#include <cstdint>
#include <span>

namespace tessera {

struct SamplingOptions {
  float temperature = 0;  ///< 0: greedy
  int64_t top_k = 0;      ///< draw from the k likeliest tokens; 0: from all
  float top_p = 1;        ///< draw from the fewest likeliest tokens that hold this share of the probability
  float min_p = 0;        ///< leave out tokens less likely than this share of the likeliest one's probability
  uint64_t seed = 0;
};

/// Throws Error when an option is out of range (temperature >= 0, top_k >= 0, 0 < top_p <= 1, 0 <= min_p <=
/// 1).
void check_sampling(const SamplingOptions& options);

/// What is done to one token's logit before the draw: away from likelihood by a divisor, then a sum.
struct LogitEdit {
  int32_t id = 0;
  float divisor = 1;  ///< > 0; a logit below 0 is multiplied by it instead
  float addend = 0;   ///< -infinity forbids the token

  constexpr float operator()(float logit) const {
    return (logit > 0 ? logit / divisor : logit * divisor) + addend;
  }
};

/// One draw: whose options, and the index of the token in its sequence. Random numbers are a function of seed
/// and index (uniform() of base/philox.h), so a sequence does not depend on its neighbours.
struct Draw {
  SamplingOptions options = {};
  uint64_t index = 0;
  std::span<const LogitEdit> edits = {};  ///< each id at most once
};

/// What sample_token() returns when a logit is NaN or none is finite (before or after the edits).
constexpr int32_t kNoToken = -1;

/// The next id, given logits [vocab_size]. Greedy takes the highest logit, the lowest id where several are
/// equal. Filters apply in this order: edits, temperature, top_k, min_p, top_p.
int32_t sample_token(std::span<const float> logits, const Draw& draw);

}  // namespace tessera
