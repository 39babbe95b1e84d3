// A warp owns 16 outputs and all tokens of the tile, and walks along K alone: its weights go from device
// memory into registers, in the order in which mma takes them; tokens pass through shared memory, which the
// warps of a block share.
//   bound   few tokens: by memory, weights are read once a tile. Many tokens: by mma.sync
//   order   lane t of four takes inputs 8 t .. 8 t + 7 of every 32, as operands of two products
#include "tessera/kernels/cuda/float_gemm.h"
#include "tessera/kernels/cuda/launch.cuh"
#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/scaling.cuh"

namespace tessera::cuda {
namespace {

constexpr int kGemmWarps = 8, kWarpOutputs = 16;
constexpr int kStep = 32;          ///< inputs of two products
constexpr int kChunk = 4 * kStep;  ///< inputs of x in shared memory at once
constexpr int kPadding = 8;        ///< halves behind a row, so that rows start in different banks
constexpr int kRowHalves = kChunk + kPadding, kRing = 3;

template <int kTokens>
constexpr int float_gemm_shared_bytes = kRing* kTokens* kRowHalves * 2;

__device__ __forceinline__ void fetch_tokens(const FloatGemmProblem& p, int64_t first, int tokens, int64_t k,
                                             uint32_t to) {
  constexpr int kPieces = kChunk / 8;
  for (int i = static_cast<int>(threadIdx.x); i < tokens * kPieces; i += 32 * kGemmWarps) {
    const int token = i / kPieces, at = i % kPieces * 8;
    const bool exists = first + token < p.m && k + at < p.k;
    const auto* const row =
        static_cast<const __half*>(p.x) + (exists ? (first + token) * p.x_stride + k + at : 0);
    ptx::copy_async(to + static_cast<uint32_t>((token * kRowHalves + at) * 2), row, exists);
  }
}

__device__ __forceinline__ uint4 load_weights(const FloatGemmProblem& p, int64_t n, int64_t k) {
  if (n >= p.n || k >= p.k) return {};
  return __ldg(reinterpret_cast<const uint4*>(static_cast<const __half*>(p.weights) + n * p.k + k));
}

template <class Out>
__device__ __forceinline__ void store_output(const FloatGemmProblem& p, int64_t token, int64_t n, float y) {
  if (token >= p.m || n >= p.n) return;
  Out& out = static_cast<Out*>(p.out)[token * p.out_stride + n];
  if (p.bias) y = __fadd_rn(y, p.bias[n]);
  if (p.accumulate) y = __fadd_rn(y, to_float(out));
  convert(y, out);
}

template <int kTokens, class Out>
__global__ void __launch_bounds__(32 * kGemmWarps)
    float_gemm_kernel(const __grid_constant__ FloatGemmProblem p) {
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  const uint32_t ring = ptx::shared_address(shared_bytes);
  constexpr uint32_t kStage = kTokens * kRowHalves * 2;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int g = lane / 4, t = lane % 4;
  const int64_t outputs = (int64_t{blockIdx.x} * kGemmWarps + warp) * kWarpOutputs;
  const int64_t tokens = int64_t{blockIdx.y} * kTokens;
  float sum[kTokens / 8][4] = {};
  uint4 low[kChunk / kStep], high[kChunk / kStep];
  const auto load = [&](int64_t k) {
#pragma unroll
    for (int s = 0; s < kChunk / kStep; ++s) {
      low[s] = load_weights(p, outputs + g, k + s * kStep + 8 * t);
      high[s] = load_weights(p, outputs + g + 8, k + s * kStep + 8 * t);
    }
  };
  load(0);
  ptx::wait_for_predecessors();
  ptx::launch_dependents();
  const auto chunks = static_cast<int>((p.k + kChunk - 1) / kChunk);
#pragma unroll
  for (int i = 0; i < kRing - 1; ++i) {
    if (i < chunks) fetch_tokens(p, tokens, kTokens, int64_t{i} * kChunk, ring + i * kStage);
    ptx::commit_copies();
  }
  for (int chunk = 0; chunk < chunks; ++chunk) {
    ptx::wait_for_copies<kRing - 2>();
    __syncthreads();
    const int ahead = chunk + kRing - 1;
    if (ahead < chunks) {
      fetch_tokens(p, tokens, kTokens, int64_t{ahead} * kChunk,
                   ring + static_cast<uint32_t>(ahead % kRing) * kStage);
    }
    ptx::commit_copies();
    uint4 a[kChunk / kStep], b[kChunk / kStep];
#pragma unroll
    for (int s = 0; s < kChunk / kStep; ++s) a[s] = low[s], b[s] = high[s];
    load(int64_t{chunk + 1} * kChunk);
    const uint8_t* const stage = shared_bytes + chunk % kRing * kStage;
#pragma unroll
    for (int s = 0; s < kChunk / kStep; ++s) {
#pragma unroll
      for (int tile = 0; tile < kTokens / 8; ++tile) {
        const uint4 x =
            *reinterpret_cast<const uint4*>(stage + ((8 * tile + g) * kRowHalves + s * kStep + 8 * t) * 2);
        ptx::mma(sum[tile], {a[s].x, b[s].x, a[s].y, b[s].y}, x.x, x.y);
        ptx::mma(sum[tile], {a[s].z, b[s].z, a[s].w, b[s].w}, x.z, x.w);
      }
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTokens / 8; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      store_output<Out>(p, tokens + 8 * tile + 2 * t + c % 2, outputs + g + c / 2 * 8, sum[tile][c]);
    }
  }
}

template <int kTokens>
void launch_tile(const FloatGemmProblem& p, cudaStream_t stream, bool overlap_previous) {
  constexpr int kOutputs = kGemmWarps * kWarpOutputs;
  const LaunchShape shape{.blocks = (p.n + kOutputs - 1) / kOutputs,
                          .blocks_y = (p.m + kTokens - 1) / kTokens,
                          .threads = 32 * kGemmWarps,
                          .shared = float_gemm_shared_bytes<kTokens>,
                          .stream = stream,
                          .overlap_previous = overlap_previous};
  if (p.float_out) return launch(float_gemm_kernel<kTokens, float>, shape, p);
  launch(float_gemm_kernel<kTokens, __half>, shape, p);
}

}  // namespace

void float_gemm(const FloatGemmProblem& problem, cudaStream_t stream, bool overlap_previous) {
  if (problem.m <= 8) return launch_tile<8>(problem, stream, overlap_previous);
  if (problem.m <= 16) return launch_tile<16>(problem, stream, overlap_previous);
  if (problem.m <= 32) return launch_tile<32>(problem, stream, overlap_previous);
  if (problem.m <= 64) return launch_tile<64>(problem, stream, overlap_previous);
  launch_tile<128>(problem, stream, overlap_previous);
}

}  // namespace tessera::cuda
