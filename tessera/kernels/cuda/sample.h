// The next tokens on the device, as sample_token() of kernels/sampling.h defines them.
#pragma once

#include <cuda_runtime.h>

#include "tessera/kernels/sampling.h"

namespace tessera::cuda {

/// One draw; see SamplingOptions. A temperature of 0 takes the likeliest token.
struct RowDraw {
  float temperature = 0, top_p = 1, min_p = 0;
  int32_t top_k = 0;
  double point = 0;                   ///< uniform(seed, index)
  int32_t first_edit = 0, edits = 0;  ///< in SampleProblem::edits
};

struct SampleProblem {
  float* logits = nullptr;  ///< [rows, width]; edits are made in place
  int64_t stride = 0, rows = 0, width = 0;
  const RowDraw* draws = nullptr;    ///< [rows], device memory
  const LogitEdit* edits = nullptr;  ///< device memory
  int32_t* ids = nullptr;  ///< [rows], device memory; kNoToken where a logit is NaN or none is finite
};

/// Probabilities are whole numbers of 2^-40 of the likeliest one's, so that sums do not depend on their
/// order. Draws are those of sample_token() but where they fall that close to the border of two tokens.
void sample(const SampleProblem& problem, cudaStream_t stream);

}  // namespace tessera::cuda
