// From projections to what attention reads: norms and rotation of heads, and storing keys and values in their
// pages. A warp takes one head of one row; of values, one head of up to eight rows whose positions are stored
// together, so that stores of a prompt are whole.
#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/attention/page.cuh"
#include "tessera/kernels/cuda/launch.cuh"

namespace tessera::cuda {
namespace {

constexpr int kAppendWarps = 4;
constexpr int kTogether = 8;  ///< positions of values that are stored at once
constexpr int kMostDim = 256, kMostPairs = kMostDim / 128;

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

/// A head: lane l holds dimensions i, i + 1 and half + i, half + i + 1 for i = 2 l, 2 l + 64, ...
struct Head {
  float2 low[kMostPairs], high[kMostPairs];

  template <class Function>
  static __device__ __forceinline__ void each(int half, Function function) {
#pragma unroll
    for (int j = 0; j < kMostPairs; ++j) {
      if (2 * lane() + 64 * j < half) function(j, 2 * lane() + 64 * j);
    }
  }
  static __device__ __forceinline__ float2 pair(const float* from) {
    return *reinterpret_cast<const float2*>(from);
  }

  __device__ __forceinline__ void load(const __half* from, int half) {
    each(half, [&](int j, int i) {
      low[j] = __half22float2(*reinterpret_cast<const __half2*>(from + i));
      high[j] = __half22float2(*reinterpret_cast<const __half2*>(from + i + half));
    });
  }
  __device__ __forceinline__ void store(__half* to, int half) const {
    each(half, [&](int j, int i) {
      *reinterpret_cast<__half2*>(to + i) = __float22half2_rn(low[j]);
      *reinterpret_cast<__half2*>(to + i + half) = __float22half2_rn(high[j]);
    });
  }

  __device__ __forceinline__ void normalize(const HeadNorm& norm, int half) {
    if (!norm.gain) return;
    const float width = static_cast<float>(2 * half);
    float mean = 0, squares = 0;
    if (norm.layer_norm) {
      each(half, [&](int j, int) { mean += low[j].x + low[j].y + high[j].x + high[j].y; });
      mean = warp_sum(mean) / width;
    }
    const auto square = [&](float x) { return (x - mean) * (x - mean); };
    each(half, [&](int j, int) {
      squares += square(low[j].x) + square(low[j].y) + square(high[j].x) + square(high[j].y);
    });
    const float factor = rsqrtf(warp_sum(squares) / width + norm.epsilon);
    const auto scale = [&](float2& x, int i) {
      const float2 gain = pair(norm.gain + i), bias = norm.bias ? pair(norm.bias + i) : float2{};
      x = {(x.x - mean) * factor * gain.x + bias.x, (x.y - mean) * factor * gain.y + bias.y};
    };
    each(half, [&](int j, int i) { scale(low[j], i), scale(high[j], i + half); });
  }

  __device__ __forceinline__ void rotate(const float* cosines, const float* sines, int half) {
    each(half, [&](int j, int i) {
      const float2 a = low[j], b = high[j], cos = pair(cosines + i), sin = pair(sines + i);
      low[j] = {__fmaf_rn(a.x, cos.x, -__fmul_rn(b.x, sin.x)), __fmaf_rn(a.y, cos.y, -__fmul_rn(b.y, sin.y))};
      high[j] = {__fmaf_rn(b.x, cos.x, __fmul_rn(a.x, sin.x)), __fmaf_rn(b.y, cos.y, __fmul_rn(a.y, sin.y))};
    });
  }

  /// Codes as quantize_kv() defines them.
  __device__ __forceinline__ KvScale quantize(int bits, int half, uint16_t* codes) const {
    float below = 0, above = 0;
    bool finite = true;
    const auto look = [&](float x) {
      below = fmaxf(below, -x), above = fmaxf(above, x);
      finite = finite && isfinite(x);
    };
    each(half, [&](int j, int) { look(low[j].x), look(low[j].y), look(high[j].x), look(high[j].y); });
    below = warp_max(below), above = warp_max(above);
    finite = __all_sync(~0u, finite);
    const auto levels = static_cast<float>((1 << bits) - 1), centre = static_cast<float>(1 << (bits - 1));
    if (!finite || below + above < 0x1p-100f) below = 0, above = 1;
    const float scale = __fdiv_rn(above + below, levels), zero = rintf(__fdiv_rn(below, scale));
    put(half, codes, [&](float x) {
      const float u = fminf(fmaxf(rintf(__fdiv_rn(x, scale)) + zero, 0), levels);
      return static_cast<uint16_t>(finite ? u : centre);
    });
    return finite ? KvScale{scale, zero} : KvScale{NAN, centre};
  }

  /// codes[i] = code(dimension i)
  template <class Code>
  __device__ __forceinline__ void put(int half, uint16_t* codes, Code code) const {
    each(half, [&](int j, int i) {
      *reinterpret_cast<ushort2*>(codes + i) = {code(low[j].x), code(low[j].y)};
      *reinterpret_cast<ushort2*>(codes + i + half) = {code(high[j].x), code(high[j].y)};
    });
  }

  template <KvFormat kFormat>
  __device__ __forceinline__ KvScale encode(int half, bool finite_only, uint16_t* codes) const {
    if constexpr (is_quantized(kFormat)) {
      return quantize(kv_bits(kFormat), half, codes);
    } else {
      const auto bits = [&](float x) {
        const __half h = __float2half_rn(finite_only && !(fabsf(x) <= 65504) ? 0 : x);
        return reinterpret_cast<const uint16_t&>(h);
      };
      put(half, codes, bits);
      return {};
    }
  }
};

__device__ __forceinline__ uint8_t* head_block(const AppendProblem& p, int64_t row, int head, int bytes) {
  return p.pages.memory + p.page[row] * p.pages.page_bytes + int64_t{head} * bytes;
}

__device__ __forceinline__ void store_scale(uint8_t* scales, int position, KvScale value) {
  auto* const to = reinterpret_cast<float*>(scales) + position;
  to[0] = value.scale;
  to[kPageTokens] = value.zero;
}

__device__ __forceinline__ const __half* head_of(const HeadRows& rows, int64_t row, int head, int d) {
  return static_cast<const __half*>(rows.data) + row * rows.stride + int64_t{head} * d;
}

template <KvFormat kFormat>
__device__ void store_key(const AppendProblem& p, int64_t row, int head, uint16_t* codes) {
  const PageLayout layout{kFormat, p.pages.head_dim};
  const int d = p.pages.head_dim, half = d / 2, position = p.position[row];
  Head x;
  x.load(head_of(p.k, row, head, d), half);
  x.normalize(p.key_norm, half);
  if (p.cos) x.rotate(p.cos + int64_t{position} * half, p.sin + int64_t{position} * half, half);
  const KvScale scale = x.encode<kFormat>(half, false, codes);
  __syncwarp();
  uint8_t* const block = head_block(p, row, head, layout.bytes());
  const Fragments keys = layout.keys();
  const int place = position % static_cast<int>(kPageTokens);
  for (int i = 4 * lane(); i < d; i += 128) {
    uint8_t* const to = block + keys.unit_offset(key_row(place), i);
    if constexpr (kFormat == KvFormat::kF16) {
      *reinterpret_cast<uint2*>(to) = {codes[i] | static_cast<uint32_t>(codes[i + 1]) << 16,
                                       codes[i + 2] | static_cast<uint32_t>(codes[i + 3]) << 16};
    } else if constexpr (kFormat == KvFormat::kInt8) {
      *reinterpret_cast<uint32_t*>(to) =
          static_cast<uint32_t>(codes[i]) | static_cast<uint32_t>(codes[i + 1]) << 8 |
          static_cast<uint32_t>(codes[i + 2]) << 16 | static_cast<uint32_t>(codes[i + 3]) << 24;
    } else {
      *reinterpret_cast<uint16_t*>(to) =
          static_cast<uint16_t>(codes[i] | codes[i + 2] << 4 | codes[i + 1] << 8 | codes[i + 3] << 12);
    }
  }
  if (is_quantized(kFormat) && lane() == 0) store_scale(block + layout.key_scales(), place, scale);
}

/// Rows from `row` on that are stored with it: those of its sequence up to the next multiple of kTogether. 0:
/// `row` is stored with one before it.
__device__ __forceinline__ int rows_together(const AppendProblem& p, int64_t row) {
  const int sequence = p.sequence[row], position = p.position[row];
  if (row > 0 && position % kTogether != 0 && p.sequence[row - 1] == sequence) return 0;
  int count = 1;
  while (row + count < p.rows && (position + count) % kTogether != 0 && p.sequence[row + count] == sequence) {
    ++count;
  }
  return count;
}

template <KvFormat kFormat>
__device__ void store_values(const AppendProblem& p, int64_t row, int head, uint16_t* codes) {
  const int count = rows_together(p, row);
  if (count == 0) return;
  const PageLayout layout{kFormat, p.pages.head_dim};
  const int d = p.pages.head_dim, half = d / 2, place = p.position[row] % static_cast<int>(kPageTokens);
  uint8_t* const block = head_block(p, row, head, layout.bytes());
  for (int i = 0; i < count; ++i) {
    Head x;
    x.load(head_of(p.v, row + i, head, d), half);
    const KvScale scale = x.encode<kFormat>(half, true, codes + i * d);
    if (is_quantized(kFormat) && lane() == 0) store_scale(block + layout.value_scales(), place + i, scale);
  }
  __syncwarp();
  const Fragments values = layout.values();
  constexpr int kBytes = kFormat == KvFormat::kF16 ? 2 : 1;
  const auto element = [&](int i, int n) {
    const uint16_t low = codes[i * d + n];
    return kFormat == KvFormat::kInt4 ? static_cast<uint16_t>(low | codes[i * d + n + half] << 4) : low;
  };
  for (int n = lane(); n < layout.value_rows(); n += 32) {
    uint8_t* const to = block + layout.values_begin() + values.unit_offset(n, place) + place % 4 * kBytes;
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

__device__ void rotate_query(const AppendProblem& p, int64_t row, int head) {
  const int d = p.pages.head_dim, half = d / 2;
  auto* const at = const_cast<__half*>(head_of(p.q, row, head, d));
  Head x;
  x.load(at, half);
  x.normalize(p.query_norm, half);
  const int64_t first = int64_t{p.position[row]} * half;
  if (p.cos) x.rotate(p.cos + first, p.sin + first, half);
  x.store(at, half);
}

template <KvFormat kFormat>
__global__ void __launch_bounds__(32 * kAppendWarps) append_kernel(const __grid_constant__ AppendProblem p) {
  extern __shared__ __align__(16) uint16_t shared[];
  uint16_t* const codes = shared + threadIdx.x / 32 * kTogether * p.pages.head_dim;
  const int queries = p.cos || p.query_norm.gain ? p.heads : 0, kv = p.pages.kv_heads,
            each = queries + 2 * kv;
  ptx::wait_for_predecessors();
  ptx::launch_dependents();
  const auto unit = static_cast<int>(blockIdx.x * kAppendWarps + threadIdx.x / 32);
  const int64_t row = unit / each;
  const int head = unit % each;
  if (row >= p.rows || p.page[row] < 0) return;
  if (head < kv) return store_key<kFormat>(p, row, head, codes);
  if (head < 2 * kv) return store_values<kFormat>(p, row, head - kv, codes);
  rotate_query(p, row, head - 2 * kv);
}

}  // namespace

void append(const AppendProblem& problem, cudaStream_t stream, bool overlap_previous) {
  const bool queries = problem.cos || problem.query_norm.gain;
  const int64_t warps = problem.rows * (2 * problem.pages.kv_heads + (queries ? problem.heads : 0));
  const LaunchShape shape{.blocks = (warps + kAppendWarps - 1) / kAppendWarps,
                          .threads = 32 * kAppendWarps,
                          .shared = kAppendWarps * kTogether * problem.pages.head_dim * 2,
                          .stream = stream,
                          .overlap_previous = overlap_previous};
  switch (problem.pages.format) {
    case KvFormat::kInt8:
      return launch(append_kernel<KvFormat::kInt8>, shape, problem);
    case KvFormat::kInt4:
      return launch(append_kernel<KvFormat::kInt4>, shape, problem);
    default:
      return launch(append_kernel<KvFormat::kF16>, shape, problem);
  }
}

}  // namespace tessera::cuda
