// What a row of logits says: likelihood of a token, divergence from another row. Natural logarithms
// throughout.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tessera {

/// log(sum(exp(x))).
double log_sum_exp(std::span<const float> x);

/// -log softmax(logits)[token].
double negative_log_likelihood(std::span<const float> logits, int32_t token);

struct TokenLogprob {
  int32_t id = 0;
  double logprob = 0;  ///< log softmax
};

/// What a row of logits says about the token that follows it.
struct TokenScore {
  double logprob = 0;  ///< of that token: -negative_log_likelihood(); NaN where a logit is
  std::vector<TokenLogprob> top =
      {};  ///< the likeliest tokens, likeliest first, the lowest id of equals first
};
/// With the `count` likeliest tokens.
TokenScore score_token(std::span<const float> logits, int32_t token, int64_t count);

struct Divergence {
  double kl = 0;          ///< sum p log(p / q) with p, q the softmax of reference and candidate; at least 0
  bool same_top = false;  ///< both have their highest logit (lowest id of equals) at the same token
};
Divergence divergence(std::span<const float> reference, std::span<const float> candidate);

}  // namespace tessera
