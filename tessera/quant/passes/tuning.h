// Tuning of codes: a block that is quantized already is trained to give what the float
// block gives ("AutoRound").
#pragma once

#include "tessera/quant/passes/pass.h"

namespace tessera {

struct TuningOptions {
  int64_t steps = 100;
  int64_t batch = 4;  ///< windows a step
  /// Parts of a code that the first step moves a weight whose gradient is as large as its output's root mean
  /// square; falls to 0 linearly.
  double learning_rate = 0.003;
  uint64_t seed = 0;  ///< of the windows of each step
};

struct TuningResult {
  /// Error of the block's output on windows that are not trained on (weighted_error): as it was, and of the
  /// best that training came by.
  double loss_before = 0, loss_after = 0;
  int64_t step = 0;           ///< after which it was reached; 0: the block is left alone
  PerLinear<double> changed;  ///< share of the codes of each linear
};

/// Trains the quantized linears of the block: its output for x_quant is to be near the float block's for
/// x_float. Codes move by one at most, on their grid; 8-bit linears, float columns and maps stay. Every
/// eighth window is kept apart to choose the best state, of which the present one is a candidate.
/// Deterministic for a seed. There must be two windows at least.
TuningResult tune_block(BlockContext& context, const TuningOptions& options);

/// Bytes that tune_block holds beside the block.
size_t tuning_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens);

}  // namespace tessera
