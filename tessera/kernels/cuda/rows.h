// Small operations on the rows of a step: embedding and sums.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace tessera::cuda {

/// h[t] = table[id[t]], its norm, + positions[position[t] + offset].
struct EmbedProblem {
  int64_t rows = 0, width = 0;
  const void* tokens = nullptr;     ///< half [vocabulary, width]
  const void* positions = nullptr;  ///< half [.., width] or null
  int64_t position_offset = 0;
  const int32_t *id = nullptr, *position = nullptr;  ///< [rows]
  const float *gain = nullptr, *bias = nullptr;      ///< [width]; no gain: no norm
  bool layer_norm = false;
  float epsilon = 1e-5f;
  float* h = nullptr;  ///< [rows, width]
  int64_t stride = 0;  ///< of h
};
void embed(const EmbedProblem& problem, cudaStream_t stream);

/// h += delta, rows of `width`: h in float, delta in half.
void add(const void* delta, int64_t delta_stride, int64_t rows, int64_t width, float* h, int64_t stride,
         cudaStream_t stream);

/// out [rows, width], float or half, += bias [width].
void add_bias(const float* bias, int64_t rows, int64_t width, void* out, int64_t stride, bool float_out,
              cudaStream_t stream);

}  // namespace tessera::cuda
