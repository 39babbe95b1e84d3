// What a row of logits says: likelihood of a token, divergence from another row. Natural logarithms
// throughout.
#pragma once

#include <cstdint>
#include <span>

namespace tessera {

/// log(sum(exp(x))).
double log_sum_exp(std::span<const float> x);

/// -log softmax(logits)[token].
double negative_log_likelihood(std::span<const float> logits, int32_t token);

struct Divergence {
  double kl = 0;          ///< sum p log(p / q) with p, q the softmax of reference and candidate; at least 0
  bool same_top = false;  ///< both have their highest logit (lowest id of equals) at the same token
};
Divergence divergence(std::span<const float> reference, std::span<const float> candidate);

}  // namespace tessera
