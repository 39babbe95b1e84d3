// Low-rank error correction: small matrices beside the rounded weights of a few consecutive blocks are
// trained until these blocks give again what the float model gives, and then merged into the weights
// ("QLLM").
#pragma once

#include <ATen/core/Generator.h>

#include <span>
#include <vector>

#include "tessera/quant/passes/pass.h"

namespace tessera {

struct CorrectionOptions {
  int64_t rank = 4;
  int64_t epochs = 10;
  int64_t batch = 1;            ///< windows a step
  double learning_rate = 5e-4;  ///< falls to 0 linearly
  bool norms = true;            ///< train the norms' gains (and biases), too
  uint64_t seed = 0;            ///< of the matrices and of the order of windows
};

/// A block as it will be quantized, with trainable matrices beside its weights:
/// y = round(x) (round(W) + B A / rank)^T + bias.
class CorrectedBlock {
 public:
  /// A [rank, columns] is random, B [N, rank] zero, so that training starts at the block rounded to nearest.
  CorrectedBlock(const BlockContext& context, const CorrectionOptions& options, at::Generator& generator);

  /// x [windows, tokens, hidden] -> the same, differentiable.
  at::Tensor forward(const at::Tensor& x) const;
  /// What is trained: the matrices, and gains where asked for.
  std::vector<at::Tensor> parameters() const;
  /// Adds B A / rank to the block's weights; takes over the norms.
  void merge_into(Block& block) const;

 private:
  at::Tensor rounded_input(LinearId id, const at::Tensor& x) const;

  const BlockContext& context_;
  Block norms_;  ///< gains, biases and the window only
  PerLinear<at::Tensor> rounded_, a_, b_, outlier_mask_;
  double scale_;
};

struct CorrectionResult {
  double loss_before = 0, loss_after = 0;  ///< mean square of the error at the last block's output
  int64_t steps = 0;
};

/// Trains the correction of `blocks` so that their output for x_quant is near `target` and merges it; leaves
/// the blocks alone when it does not help. Deterministic for a seed.
CorrectionResult correct_blocks(GroupContext& group, const CorrectionOptions& options);

/// Bytes that correct_blocks holds for `blocks` blocks beside their weights.
size_t correction_bytes(const ModelSpec& spec, int64_t blocks, int64_t tokens,
                        const CorrectionOptions& options);

}  // namespace tessera
