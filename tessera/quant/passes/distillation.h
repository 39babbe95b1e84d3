// Distillation: what is left in floats of a quantized model is trained to give the float model's predictions.
#pragma once

#include "tessera/quant/passes/pass.h"

namespace tessera {

struct DistillationOptions {
  int64_t steps = 100;
  int64_t batch = 4;             ///< windows a step
  double learning_rate = 0.001;  ///< relative to the values, for Adam; falls to 0 linearly
  bool scales = true;            ///< also output scales
  uint64_t seed = 0;             ///< of the windows of each step
};

struct DistillationResult {
  /// Mean Kullback-Leibler divergence from the float model's next-token distribution, in nats a token, on
  /// windows that are not trained on: as it was, and of the best state that training came by.
  double divergence_before = 0, divergence_after = 0;
  int64_t step = 0;  ///< after which that was reached; 0: the model is left alone
};

/// Trains gains and biases of all norms, biases of linears and their output scales on the divergence of the
/// whole model's predictions, end to end ("Norm Tweaking", arXiv 2309.02784, trains norms on blocks;
/// "EfficientQAT", arXiv 2407.11062, steps end to end). Codes stay. Every eighth window is kept apart to
/// choose the best state, of which the present one is a candidate. Blocks run one after another, forwards
/// without a graph and again when gradients come back. Deterministic for a seed.
DistillationResult distill(ModelContext& model, const DistillationOptions& options);

/// Bytes that distill holds beside `embedded` and `target`.
size_t distillation_bytes(const ModelSpec& spec, const DistillationOptions& options, int64_t windows,
                          int64_t tokens);

}  // namespace tessera
