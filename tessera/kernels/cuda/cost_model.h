// What a GEMM configuration costs on an H200, estimated from its traffic and arithmetic. The constants come
// from bench/gpu (tune), so that shapes nobody timed are served as well as those that were.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/kernels/cuda/gemm.h"

namespace tessera::cuda {

/// Every tile size with every split.
const std::vector<GemmConfig>& all_configs();
/// True when `config` is one of them and every block of a cluster has some of the k inputs.
bool runs(const GemmConfig& config, int64_t k);
/// Expected microseconds of a launch in a graph, weights in device memory, codes in L2.
double estimate_microseconds(WeightLayout layout, const GemmConfig& config, int64_t m, int64_t n, int64_t k);

}  // namespace tessera::cuda
