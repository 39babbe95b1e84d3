// From logits to the next token.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace tessera {

struct SamplingOptions {
  float temperature = 0;  ///< 0: greedy
  int64_t top_k = 0;      ///< draw from the k likeliest tokens; 0: from all
  float top_p = 1;        ///< draw from the fewest likeliest tokens that hold this share of the probability
  uint64_t seed = 0;
};

/// Draws token ids. The same options and the same logits give the same ids, with every standard library.
class Sampler {
 public:
  /// Throws Error when an option is out of range (temperature >= 0, top_k >= 0, 0 < top_p <= 1).
  explicit Sampler(const SamplingOptions& options);

  /// The next id, given logits [vocab_size]. Greedy takes the highest logit, the lowest id where several are
  /// equal. Throws Error when a logit is NaN or none is finite.
  int32_t sample(std::span<const float> logits);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  /// Orders the candidates, likeliest first, and drops those beyond top_k.
  void keep_likeliest();
  /// Drops the candidates beyond top_p and draws one of the others by their weights.
  int32_t draw();

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;  ///< of the candidates, not normalised
};

}  // namespace tessera
