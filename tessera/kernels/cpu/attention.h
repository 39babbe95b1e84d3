// Operations on heads, spread over the threads.
#pragma once

#include "tessera/kernels/backend.h"
#include "tessera/kernels/cpu/kernel_table.h"
#include "tessera/kernels/host_kv_pool.h"

namespace tessera {

/// See Backend::append. Throws Error when a head is wider than kMaxHeadDim.
void append_heads(const CpuKernels& kernels, const Rows& q, const Rows& k, const Rows& v,
                  const HeadRule& rule, const Batch& batch, int64_t layer, HostKvPool& pool);

/// Attention as in Backend, into out [rows, n_heads * head_dim].
void attend_batch(const CpuKernels& kernels, const Rows& q, const Batch& batch, int64_t layer,
                  const HostKvPool& pool, const AttentionRule& rule, const Rows& out);

}  // namespace tessera
