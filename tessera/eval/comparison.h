// Quantized models against the float model that they came from, on the same windows.
#pragma once

#include <span>
#include <vector>

#include "tessera/eval/perplexity.h"
#include "tessera/eval/statistics.h"

namespace tessera {

struct ModelComparison {
  Perplexity perplexity;
  /// Over windows, of NLL - NLL of the reference, nats a token. Paired, so its error is far below that of
  /// either NLL.
  MeanError nll_difference;
  Distribution kl;           ///< KL(reference || this) over all predictions, nats a token
  double top_agreement = 0;  ///< share of predictions whose likeliest token is the reference's
  /// Behind each block, of the residual stream: ||h - h_ref|| / ||h_ref|| of a token, the median over all
  /// tokens. A sum over tokens would follow the few that carry nearly all energy (arXiv 2402.17762).
  std::vector<double> layer_error;
};

struct Comparison {
  Perplexity reference;
  std::vector<ModelComparison> candidates = {};
};

/// Runs all models side by side, a piece of a window at a time: nothing but the reference's logits and
/// residual stream of one piece is kept. Throws Error when a candidate's vocabulary, width or depth is not
/// that of the reference.
Comparison compare_models(Model& reference, std::span<Model* const> candidates, const Windows& windows,
                          Reporter& reporter);

}  // namespace tessera
