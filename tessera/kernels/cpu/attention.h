// Operations on heads: rotary positions, the cache, attention.
#pragma once

#include "tessera/kernels/backend.h"
#include "tessera/kernels/cpu/kernel_table.h"
#include "tessera/kernels/cpu/packed_weights.h"

namespace tessera {

/// See Backend::rope.
void rotate_heads(float* rows, int64_t m, int64_t first, int64_t n_heads, int64_t head_dim,
                  const float* cosines, const float* sines);
/// See Backend::append. Throws Error when a quantized head is wider than kMaxHeadDim.
void append_to_cache(const CpuKernels& kernels, KvCache& cache, int64_t layer, const float* k, const float* v,
                     int64_t m);
/// See Backend::attention. Throws Error when the head is wider than kMaxHeadDim.
void attend_all(const CpuKernels& kernels, const float* q, const KvCache& cache, int64_t layer, int64_t m,
                int64_t n_heads, const AttentionRule& rule, float* out);

}  // namespace tessera
