// A warp owns 16 or 32 outputs and all tokens of the tile, and walks along K: its weights go from device
// memory into registers, in the order in which mma takes them; tokens pass through shared memory, which warps
// that read the same inputs share.
//   bound   by instructions: codes become halves where they are multiplied. Many tokens: by mma.sync
//   order   K is kSlices chains of products, added one after another. With few tiles the warps of a block
//           take a slice each, otherwise every warp takes all: the sums are the same
#include "tessera/kernels/cuda/float_gemm.h"
#include "tessera/kernels/cuda/float_weights.cuh"
#include "tessera/kernels/cuda/launch.cuh"
#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/scaling.cuh"

namespace tessera::cuda {
namespace {

constexpr int kGemmWarps = 8, kWarpOutputs = 16, kSlices = 4;
constexpr int kRing = 3;  ///< chunks of x in shared memory

/// Byte at which a piece of a token stands in a chunk: pieces of neighbouring tokens in different banks.
__device__ __forceinline__ int offset_of(int token, int position) {
  return (token * kPieces + (position ^ (token & 1) << 2)) * kPiece * 2;
}

/// `kTiles`: of 16 outputs, a warp. `kParallel`: slices that run at once, 1 or all.
template <int kTokens, int kTiles, int kParallel>
struct Tile {
  static constexpr int kGroups = kGemmWarps / kParallel;  ///< warps that share x
  static constexpr int kOutputs = kGroups * kTiles * kWarpOutputs;
  static constexpr uint32_t kStage = kTokens * kChunk * 2;
  static constexpr int kRingBytes = kParallel * kRing * kStage;
  static constexpr int kSumBytes = kParallel > 1 ? kParallel* kTokens* kOutputs * 4 : 0;
  static constexpr int kSharedBytes = kRingBytes > kSumBytes ? kRingBytes : kSumBytes;
};

/// Inputs k .. k + kChunk - 1 of the tile's tokens, by `threads` threads of which this is `thread`.
template <class Row, int kTokens>
__device__ __forceinline__ void fetch_tokens(const FloatGemmProblem& p, int64_t first, int64_t k, uint32_t to,
                                             int thread, int threads) {
  for (int i = thread; i < kTokens * kPieces; i += threads) {
    const int token = i / kPieces, piece = i % kPieces;
    const int64_t at = k + piece * kPiece;
    const bool exists = first + token < p.m && at < p.k;
    const auto* const row =
        static_cast<const __half*>(p.x) + (exists ? (first + token) * p.x_stride + at : 0);
    ptx::copy_async(to + static_cast<uint32_t>(offset_of(token, Row::position(piece))), row, exists);
  }
}

template <class Out>
__device__ __forceinline__ void store_output(const FloatGemmProblem& p, int64_t token, int64_t n, float y) {
  if (token >= p.m || n >= p.n) return;
  Out& out = static_cast<Out*>(p.out)[token * p.out_stride + n];
  if (p.codes.scale) y = __fmul_rn(y, p.codes.scale[n]);
  if (p.bias) y = __fadd_rn(y, p.bias[n]);
  if (p.accumulate) y = __fadd_rn(y, to_float(out));
  convert(y, out);
}

template <int kTiles, int kTokenTiles>
__device__ __forceinline__ void end_slice(float (&sum)[kTiles][kTokenTiles][4],
                                          float (&total)[kTiles][kTokenTiles][4]) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        total[tile][j][c] = __fadd_rn(total[tile][j][c], sum[tile][j][c]);
        sum[tile][j][c] = 0;
      }
    }
  }
}

template <class Out, class Row, int kTokens, int kTiles, int kParallel>
__global__ void __launch_bounds__(32 * kGemmWarps)
    float_gemm_kernel(const __grid_constant__ FloatGemmProblem p) {
  using T = Tile<kTokens, kTiles, kParallel>;
  constexpr int kTokenTiles = kTokens / 8, kThreads = 32 * T::kGroups, kAhead = Row::ahead(kTiles * kTokens);
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int g = lane / 4, t = lane % 4;
  const int part = warp / T::kGroups, warp_output = warp % T::kGroups * kTiles * kWarpOutputs;
  const int64_t outputs = int64_t{blockIdx.x} * T::kOutputs, tokens = int64_t{blockIdx.y} * kTokens;
  const int slice = static_cast<int>((p.k + kSlices * kChunk - 1) / (kSlices * kChunk));  // in chunks
  const int count = kSlices / kParallel * slice;
  const int64_t first = int64_t{part} * count * kChunk;
  uint8_t* const ring = shared_bytes + part * kRing * T::kStage;

  Row rows[kAhead][kTiles][2];
  const auto load = [&](int ahead, int chunk) {
    if (chunk >= count) return;
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      rows[ahead][i / 2][i % 2].load(p, outputs + warp_output + 8 * i + g, first + int64_t{chunk} * kChunk,
                                     t);
    }
  };
  const auto fetch = [&](int chunk) {
    if (chunk < count) {
      fetch_tokens<Row, kTokens>(p, tokens, first + int64_t{chunk} * kChunk,
                                 ptx::shared_address(ring + chunk % kRing * T::kStage),
                                 static_cast<int>(threadIdx.x) % kThreads, kThreads);
    }
    ptx::commit_copies();
  };
#pragma unroll
  for (int ahead = 0; ahead < kAhead; ++ahead) load(ahead, ahead);
  ptx::wait_for_predecessors();
  ptx::launch_dependents();
#pragma unroll
  for (int chunk = 0; chunk < kRing - 1; ++chunk) fetch(chunk);

  float sum[kTiles][kTokenTiles][4] = {}, total[kTiles][kTokenTiles][4] = {};
  for (int base = 0; base < count; base += kAhead) {
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      const int chunk = base + ahead;
      if (chunk >= count) break;
      ptx::wait_for_copies<kRing - 2>();
      __syncthreads();
      fetch(chunk + kRing - 1);
      const uint8_t* const stage = ring + chunk % kRing * T::kStage;
      Row now[kTiles][2];
#pragma unroll
      for (int i = 0; i < 2 * kTiles; ++i) now[i / 2][i % 2] = rows[ahead][i / 2][i % 2];
      load(ahead, chunk + kAhead);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint4 a[kTiles], b[kTiles];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          a[tile] = now[tile][0].piece(i), b[tile] = now[tile][1].piece(i);
        }
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) {
          const uint4 x = *reinterpret_cast<const uint4*>(stage + offset_of(8 * j + g, 4 * i + t));
#pragma unroll
          for (int tile = 0; tile < kTiles; ++tile) {
            ptx::mma(sum[tile][j], {a[tile].x, b[tile].x, a[tile].y, b[tile].y}, x.x, x.y);
            ptx::mma(sum[tile][j], {a[tile].z, b[tile].z, a[tile].w, b[tile].w}, x.z, x.w);
          }
        }
      }
      if constexpr (kParallel == 1) {
        if ((chunk + 1) % slice == 0) end_slice(sum, total);
      }
    }
  }

  // Element c of a tile is that of output g + 8 (c / 2) and token 2 t + c % 2.
  auto* const sums = reinterpret_cast<float*>(shared_bytes);  // [part][token][output]
  if constexpr (kParallel > 1) __syncthreads();
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int token = 8 * j + 2 * t + c % 2, output = warp_output + kWarpOutputs * tile + g + c / 2 * 8;
        if constexpr (kParallel == 1) {
          store_output<Out>(p, tokens + token, outputs + output, total[tile][j][c]);
        } else {
          sums[(part * kTokens + token) * T::kOutputs + output] = sum[tile][j][c];
        }
      }
    }
  }
  if constexpr (kParallel > 1) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kTokens * T::kOutputs; i += 32 * kGemmWarps) {
      float y = sums[i];
#pragma unroll
      for (int other = 1; other < kParallel; ++other)
        y = __fadd_rn(y, sums[other * kTokens * T::kOutputs + i]);
      store_output<Out>(p, tokens + i / T::kOutputs, outputs + i % T::kOutputs, y);
    }
  }
}

template <int kTokens, int kTiles, int kParallel>
LaunchShape shape_of(const FloatGemmProblem& p) {
  using T = Tile<kTokens, kTiles, kParallel>;
  return {.blocks = (p.n + T::kOutputs - 1) / T::kOutputs,
          .blocks_y = (p.m + kTokens - 1) / kTokens,
          .threads = 32 * kGemmWarps,
          .shared = T::kSharedBytes};
}

template <class Row, int kTokens, int kTiles, int kParallel>
void launch_tile(const FloatGemmProblem& p, cudaStream_t stream, bool overlap_previous) {
  LaunchShape shape = shape_of<kTokens, kTiles, kParallel>(p);
  shape.stream = stream;
  shape.overlap_previous = overlap_previous;
  if (p.float_out) return launch(float_gemm_kernel<float, Row, kTokens, kTiles, kParallel>, shape, p);
  launch(float_gemm_kernel<__half, Row, kTokens, kTiles, kParallel>, shape, p);
}

/// `kTiles`: of 16 outputs, a warp, where there are many tokens.
template <class Row, int kTiles>
void launch_best(const FloatGemmProblem& p, cudaStream_t stream, bool overlap_previous) {
  if (p.m <= 8) return launch_tile<Row, 8, 1, kSlices>(p, stream, overlap_previous);
  if (p.m <= 16) return launch_tile<Row, 16, 1, kSlices>(p, stream, overlap_previous);
  const LaunchShape whole = shape_of<64, kTiles, 1>(p);
  if (whole.blocks * whole.blocks_y < 2 * device_attribute(cudaDevAttrMultiProcessorCount))
    return launch_tile<Row, 32, kTiles, kSlices>(p, stream, overlap_previous);
  launch_tile<Row, 64, kTiles, 1>(p, stream, overlap_previous);
}

}  // namespace

void float_gemm(const FloatGemmProblem& problem, cudaStream_t stream, bool overlap_previous) {
  if (problem.weights) return launch_best<HalfRow, 1>(problem, stream, overlap_previous);
  launch_best<CodeRow, 2>(problem, stream, overlap_previous);
}

}  // namespace tessera::cuda
