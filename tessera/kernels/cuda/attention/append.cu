// From projections to what attention reads: norms and rotation of heads, and storing keys and values in their
// pages. A warp takes one head of one row, of prompts one head of up to eight rows: their loads are on their
// way together, and stores of values are whole.
#include <cuda_fp16.h>

#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/attention/page_layout.h"
#include "tessera/kernels/cuda/attention/shapes.h"
#include "tessera/kernels/cuda/launch.cuh"
#include "tessera/kernels/cuda/ptx.cuh"

namespace tessera::cuda {
namespace {

constexpr int kAppendWarps = 4;
constexpr int kTogether = 8;  ///< positions of values that are stored at once
constexpr int kAhead = 4;     ///< rows that are loaded at once

__device__ __forceinline__ int lane() {
  return static_cast<int>(threadIdx.x % 32);
}
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, distance));
  return x;
}

/// A head: lane l holds dimensions i, i + 1 and kHalf + i, kHalf + i + 1 for i = 2 l, 2 l + 64, ...
template <int kDim>
struct Head {
  static constexpr int kHalf = kDim / 2, kPairs = (kHalf + 63) / 64;
  float2 low[kPairs], high[kPairs];

  template <class Function>
  static __device__ __forceinline__ void each(Function function) {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      if (2 * lane() + 64 * j < kHalf) function(j, 2 * lane() + 64 * j);
    }
  }
  static __device__ __forceinline__ float2 pair(const float* from) {
    return *reinterpret_cast<const float2*>(from);
  }

  __device__ __forceinline__ void load(const __half* from) {
    each([&](int j, int i) {
      low[j] = __half22float2(*reinterpret_cast<const __half2*>(from + i));
      high[j] = __half22float2(*reinterpret_cast<const __half2*>(from + i + kHalf));
    });
  }
  __device__ __forceinline__ void load_angles(const float* cosines, const float* sines) {
    each([&](int j, int i) { low[j] = pair(cosines + i), high[j] = pair(sines + i); });
  }
  __device__ __forceinline__ void store(__half* to) const {
    each([&](int j, int i) {
      *reinterpret_cast<__half2*>(to + i) = __float22half2_rn(low[j]);
      *reinterpret_cast<__half2*>(to + i + kHalf) = __float22half2_rn(high[j]);
    });
  }

  __device__ __forceinline__ void normalize(const HeadNorm& norm) {
    if (!norm.gain) return;
    const float width = static_cast<float>(kDim);
    float mean = 0, squares = 0;
    if (norm.layer_norm) {
      each([&](int j, int) { mean += low[j].x + low[j].y + high[j].x + high[j].y; });
      mean = warp_sum(mean) / width;
    }
    const auto square = [&](float x) { return (x - mean) * (x - mean); };
    each([&](int j, int) {
      squares += square(low[j].x) + square(low[j].y) + square(high[j].x) + square(high[j].y);
    });
    const float factor = rsqrtf(warp_sum(squares) / width + norm.epsilon);
    const auto scale = [&](float2& x, int i) {
      const float2 gain = pair(norm.gain + i), bias = norm.bias ? pair(norm.bias + i) : float2{};
      x = {(x.x - mean) * factor * gain.x + bias.x, (x.y - mean) * factor * gain.y + bias.y};
    };
    each([&](int j, int i) { scale(low[j], i), scale(high[j], i + kHalf); });
  }

  /// `angles`: cosines and sines of a position, as `low` and `high`.
  __device__ __forceinline__ void rotate(const Head& angles) {
    each([&](int j, int) {
      const float2 a = low[j], b = high[j], cos = angles.low[j], sin = angles.high[j];
      low[j] = {__fmaf_rn(a.x, cos.x, -__fmul_rn(b.x, sin.x)), __fmaf_rn(a.y, cos.y, -__fmul_rn(b.y, sin.y))};
      high[j] = {__fmaf_rn(b.x, cos.x, __fmul_rn(a.x, sin.x)), __fmaf_rn(b.y, cos.y, __fmul_rn(a.y, sin.y))};
    });
  }

  /// Codes as quantize_kv() defines them.
  __device__ __forceinline__ KvScale quantize(int bits, uint16_t* codes) const {
    float below = 0, above = 0;
    bool finite = true;
    const auto look = [&](float x) {
      below = fmaxf(below, -x), above = fmaxf(above, x);
      finite = finite && isfinite(x);
    };
    each([&](int j, int) { look(low[j].x), look(low[j].y), look(high[j].x), look(high[j].y); });
    below = warp_max(below), above = warp_max(above);
    finite = __all_sync(~0u, finite);
    const auto levels = static_cast<float>((1 << bits) - 1), centre = static_cast<float>(1 << (bits - 1));
    if (!finite || below + above < 0x1p-100f) below = 0, above = 1;
    const float scale = __fdiv_rn(above + below, levels), zero = rintf(__fdiv_rn(below, scale));
    put(codes, [&](float x) {
      const float u = fminf(fmaxf(rintf(__fdiv_rn(x, scale)) + zero, 0), levels);
      return static_cast<uint16_t>(finite ? u : centre);
    });
    return finite ? KvScale{scale, zero} : KvScale{NAN, centre};
  }

  /// codes[i] = code(dimension i)
  template <class Code>
  __device__ __forceinline__ void put(uint16_t* codes, Code code) const {
    each([&](int j, int i) {
      *reinterpret_cast<ushort2*>(codes + i) = {code(low[j].x), code(low[j].y)};
      *reinterpret_cast<ushort2*>(codes + i + kHalf) = {code(high[j].x), code(high[j].y)};
    });
  }

  template <KvFormat kFormat>
  __device__ __forceinline__ KvScale encode(bool finite_only, uint16_t* codes) const {
    if constexpr (is_quantized(kFormat)) {
      return quantize(kv_bits(kFormat), codes);
    } else {
      const auto bits = [&](float x) {
        const __half h = __float2half_rn(finite_only && !(fabsf(x) <= 65504) ? 0 : x);
        return reinterpret_cast<const uint16_t&>(h);
      };
      put(codes, bits);
      return {};
    }
  }
};

template <int kBytes>
__device__ __forceinline__ uint8_t* head_block(const AppendProblem& p, int64_t row, int head) {
  return p.pages.memory + p.page[row] * p.pages.page_bytes + int64_t{head} * kBytes;
}

__device__ __forceinline__ void store_scale(uint8_t* scales, int position, KvScale value) {
  auto* const to = reinterpret_cast<float*>(scales) + position;
  to[0] = value.scale;
  to[kPageTokens] = value.zero;
}

template <int kDim>
__device__ __forceinline__ __half* head_of(const HeadRows& rows, int64_t row, int head) {
  return static_cast<__half*>(rows.data) + row * rows.stride + int64_t{head} * kDim;
}

/// Neighbouring rows of one sequence, up to the next multiple of kTogether of its positions.
struct Run {
  int64_t row;
  int count, position;  ///< of the first
};

/// Calls function(run) for the runs that begin in rows first .. first + rows_of_warp - 1. Lane l looks at row
/// first - 1 + l.
template <class Function>
__device__ __forceinline__ void each_run(const AppendProblem& p, int64_t first, Function function) {
  static_assert(1 + kTogether + kTogether <= 32);
  const int64_t row = first - 1 + lane();
  const bool exists = row >= 0 && row < p.rows;
  const int sequence = exists ? p.sequence[row] : -1, position = exists ? p.position[row] : 0;
  const bool stored = exists && p.page[row] >= 0;
  const int before = __shfl_up_sync(~0u, sequence, 1);
  const bool continues = lane() > 0 && exists && sequence == before && position % kTogether != 0;
  const uint32_t continued = __ballot_sync(~0u, continues);
  const bool begins = stored && !continues && lane() > 0 && lane() <= p.rows_of_warp;
  for (uint32_t runs = __ballot_sync(~0u, begins); runs != 0; runs &= runs - 1) {
    const int at = __ffs(static_cast<int>(runs)) - 1;
    function(Run{first - 1 + at, __ffs(static_cast<int>(~(continued >> (at + 1)))),
                 __shfl_sync(~0u, position, at)});
    __syncwarp();
  }
}

/// Calls function(i, its head) for the rows of `run`, normed and rotated.
template <int kDim, class Function>
__device__ __forceinline__ void each_rotated(const AppendProblem& p, const Run& run, const HeadRows& rows,
                                             const HeadNorm& norm, int head, Function function) {
  for (int first = 0; first < run.count; first += kAhead) {
    Head<kDim> x[kAhead], angles[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i >= run.count) break;
      x[i].load(head_of<kDim>(rows, run.row + first + i, head));
      const int64_t angle = int64_t{run.position + first + i} * (kDim / 2);
      if (p.cos) angles[i].load_angles(p.cos + angle, p.sin + angle);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i >= run.count) break;
      x[i].normalize(norm);
      if (p.cos) x[i].rotate(angles[i]);
      function(first + i, x[i]);
    }
  }
}

/// The unit of four codes.
template <KvFormat kFormat>
__device__ __forceinline__ void store_unit(uint8_t* to, const uint16_t* codes) {
  const auto code = [&](int i) { return static_cast<uint32_t>(codes[i]); };
  if constexpr (kFormat == KvFormat::kF16) {
    *reinterpret_cast<uint2*>(to) = {code(0) | code(1) << 16, code(2) | code(3) << 16};
  } else if constexpr (kFormat == KvFormat::kInt8) {
    *reinterpret_cast<uint32_t*>(to) = code(0) | code(1) << 8 | code(2) << 16 | code(3) << 24;
  } else {
    *reinterpret_cast<uint16_t*>(to) =
        static_cast<uint16_t>(code(0) | code(2) << 4 | code(1) << 8 | code(3) << 12);
  }
}

template <KvFormat kFormat, int kDim>
__device__ void store_keys(const AppendProblem& p, const Run& run, int head, uint16_t* codes) {
  constexpr PageLayout kLayout{kFormat, kDim};
  constexpr Fragments kKeys = kLayout.keys();
  const int place = run.position % static_cast<int>(kPageTokens);
  uint8_t* const block = head_block<kLayout.bytes()>(p, run.row, head);
  each_rotated<kDim>(p, run, p.k, p.key_norm, head, [&](int i, const Head<kDim>& x) {
    const KvScale scale = x.template encode<kFormat>(false, codes + i * kDim);
    if (is_quantized(kFormat) && lane() == 0) store_scale(block + kLayout.key_scales(), place + i, scale);
  });
  __syncwarp();
  for (int at = 4 * lane(); at < run.count * kDim; at += 128) {
    const int row = key_row(place + at / kDim);
    store_unit<kFormat>(block + kKeys.unit_offset(row, at % kDim), codes + at);
  }
}

template <KvFormat kFormat, int kDim>
__device__ void store_values(const AppendProblem& p, const Run& run, int head, uint16_t* codes) {
  constexpr PageLayout kLayout{kFormat, kDim};
  constexpr Fragments kValues = kLayout.values();
  const int count = run.count, place = run.position % static_cast<int>(kPageTokens);
  uint8_t* const block = head_block<kLayout.bytes()>(p, run.row, head);
#pragma unroll kAhead
  for (int i = 0; i < count; ++i) {
    Head<kDim> x;
    x.load(head_of<kDim>(p.v, run.row + i, head));
    const KvScale scale = x.template encode<kFormat>(true, codes + i * kDim);
    if (is_quantized(kFormat) && lane() == 0) store_scale(block + kLayout.value_scales(), place + i, scale);
  }
  __syncwarp();
  constexpr int kBytes = kFormat == KvFormat::kF16 ? 2 : 1;
  const auto element = [&](int i, int n) {
    const uint16_t low = codes[i * kDim + n];
    return kFormat == KvFormat::kInt4 ? static_cast<uint16_t>(low | codes[i * kDim + n + kDim / 2] << 4)
                                      : low;
  };
  for (int n = lane(); n < kLayout.value_rows(); n += 32) {
    uint8_t* const to = block + kLayout.values_begin() + kValues.unit_offset(n, place) + place % 4 * kBytes;
    if (count == kTogether) {  // two neighbouring units
      uint32_t words[2 * kBytes] = {};
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        words[i * kBytes / 4] |= static_cast<uint32_t>(element(i, n)) << (i * kBytes % 4 * 8);
      }
      if constexpr (kBytes == 2) {
        *reinterpret_cast<uint4*>(to) = {words[0], words[1], words[2], words[3]};
      } else {
        *reinterpret_cast<uint2*>(to) = {words[0], words[1]};
      }
      continue;
    }
    for (int i = 0; i < count; ++i) {
      if constexpr (kBytes == 2) {
        reinterpret_cast<uint16_t*>(to)[i] = element(i, n);
      } else {
        to[i] = static_cast<uint8_t>(element(i, n));
      }
    }
  }
}

template <int kDim>
__device__ void rotate_queries(const AppendProblem& p, const Run& run, int head) {
  each_rotated<kDim>(p, run, p.q, p.query_norm, head,
                     [&](int i, const Head<kDim>& x) { x.store(head_of<kDim>(p.q, run.row + i, head)); });
}

template <KvFormat kFormat, int kDim>
__global__ void __launch_bounds__(32 * kAppendWarps) append_kernel(const __grid_constant__ AppendProblem p) {
  __shared__ __align__(16) uint16_t shared[kAppendWarps][kTogether * kDim];
  uint16_t* const codes = shared[threadIdx.x / 32];
  const int queries = p.cos || p.query_norm.gain ? p.heads : 0, kv = p.pages.kv_heads;
  const int unit = static_cast<int>(blockIdx.x * kAppendWarps + threadIdx.x / 32);
  const int head = unit % (queries + 2 * kv), rows = unit / (queries + 2 * kv);
  ptx::wait_for_predecessors();
  ptx::launch_dependents();
  each_run(p, int64_t{rows} * p.rows_of_warp, [&](const Run& run) {
    if (head < kv) return store_keys<kFormat, kDim>(p, run, head, codes);
    if (head < 2 * kv) return store_values<kFormat, kDim>(p, run, head - kv, codes);
    rotate_queries<kDim>(p, run, head - 2 * kv);
  });
}

}  // namespace

void append(const AppendProblem& problem, cudaStream_t stream, bool overlap_previous) {
  const bool queries = problem.cos || problem.query_norm.gain;
  const int64_t runs = (problem.rows + problem.rows_of_warp - 1) / problem.rows_of_warp;
  const int64_t warps = runs * (2 * problem.pages.kv_heads + (queries ? problem.heads : 0));
  with_shape(problem.pages, [&]<KvFormat kFormat, int kDim>() {
    launch(append_kernel<kFormat, kDim>,
           {.blocks = (warps + kAppendWarps - 1) / kAppendWarps,
            .threads = 32 * kAppendWarps,
            .stream = stream,
            .overlap_previous = overlap_previous},
           problem);
  });
}

}  // namespace tessera::cuda
