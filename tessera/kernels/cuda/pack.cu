// Packing: a thread block of the GPU writes one block of weights.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "tessera/kernels/cuda/launch.cuh"
#include "tessera/kernels/cuda/nibbles.h"
#include "tessera/kernels/cuda/pack.h"
#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 256;

/// Scale and zero point of the group that holds (row, input), and how far down it moves.
struct Group {
  int scale, zero, shift;

  __device__ Group(const PackProblem& p, int64_t row, int64_t input) {
    const int64_t at = row * (p.k / p.group_size) + input / p.group_size;
    scale = p.group_scale[at];
    zero = p.group_zero ? p.group_zero[at] : 8;
    shift = group_shift(scale, zero);
  }
};

/// Codes row, input .. input + 3, one a byte; zeros beyond the layer.
template <int kBits>
__device__ uint32_t four_codes(const PackProblem& p, int64_t row, int64_t input) {
  if (row >= p.n || input >= p.k) return 0;
  const int64_t at = row * p.k + input;
  if constexpr (kBits == 8) return static_cast<const uint32_t*>(p.codes)[at / 4];
  const uint32_t codes = spread_nibbles(static_cast<const uint16_t*>(p.codes)[at / 4]);
  return p.group_scale ? codes - Group(p, row, input).shift * 0x01010101u : codes;
}

/// The 16 bytes that lane `lane` of the strip whose first row is `row` reads as part `part`.
template <int kBits>
__device__ uint4 fragment(const PackProblem& p, int64_t row, int64_t input, int part, int lane) {
  const int g = lane / 4, t = lane % 4;
  uint32_t words[4];
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    if constexpr (kBits == 8) {
      const int64_t at = input + 32 * part + 16 * (w / 2) + 4 * t;
      words[w] = four_codes<8>(p, row + g + 8 * (w % 2), at);
    } else {
      const int64_t at = input + 64 * part + 16 * w + 4 * t;
      words[w] = four_codes<4>(p, row + g, at) | four_codes<4>(p, row + g + 8, at) << 4;
    }
  }
  return {words[0], words[1], words[2], words[3]};
}

__device__ uint32_t group_parameters(const PackProblem& p, int64_t row, int64_t input) {
  if (row >= p.n || input >= p.k) return 0;
  const Group group(p, row, input);
  return static_cast<uint8_t>(group.scale) |
         static_cast<uint32_t>(128 - group.scale * (group.zero - group.shift)) << 8;
}

template <int kBits>
__global__ void __launch_bounds__(kThreads) pack_kernel(const __grid_constant__ PackProblem p) {
  const int64_t row_block = blockIdx.y, input_block = blockIdx.x;
  const int64_t row = row_block * kBlockOutputs, input = input_block * kBlockInputs;
  auto* const block = static_cast<std::byte*>(p.blocks) + block_offset(p.layout, p.k, row_block, input_block);
  constexpr int kStrips = kBlockOutputs / kStripOutputs, kFragments = strip_code_bytes(kBits) / 16;
  for (int i = threadIdx.x; i < kStrips * kFragments; i += kThreads) {
    const int strip = i / kFragments, part = i % kFragments / 32, lane = i % 32;
    *reinterpret_cast<uint4*>(block + strip * strip_bytes(p.layout) + fragment_offset(part, lane)) =
        fragment<kBits>(p, row + strip * kStripOutputs, input, part, lane);
  }
  if (p.layout.group_size == 0) return;
  const int words = kBlockInputs / p.layout.group_size * 8;
  for (int i = threadIdx.x; i < kStrips * words; i += kThreads) {
    const int strip = i / words, group = i % words / 8, g = i % 8;
    const int64_t first = row + strip * kStripOutputs + g, at = input + group * p.layout.group_size;
    *reinterpret_cast<uint32_t*>(block + strip * strip_bytes(p.layout) + group_offset(group, g)) =
        group_parameters(p, first, at) | group_parameters(p, first + 8, at) << 16;
  }
}

__global__ void __launch_bounds__(kThreads) outlier_kernel(const uint16_t* weights, int64_t n, int64_t count,
                                                           int64_t column_blocks, std::byte* packed) {
  for (int64_t f = threadIdx.x; f < count; f += kThreads) {
    const int64_t row = blockIdx.x, block = row / kBlockOutputs * column_blocks + f / kOutlierColumns;
    const int64_t strip = block * (kBlockOutputs / kStripOutputs) + row % kBlockOutputs / kStripOutputs;
    const int at =
        outlier_position(static_cast<int>(row % kStripOutputs), static_cast<int>(f % kOutlierColumns));
    *reinterpret_cast<uint16_t*>(packed + strip * kOutlierStripBytes + at) = weights[row * count + f];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    halves_kernel(const T* values, int64_t count, __half* halves, int32_t* too_large) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads) {
    halves[i] = __float2half_rn(static_cast<float>(values[i]));
    if (__hisinf(halves[i]) || __hisnan(halves[i])) *too_large = 1;
  }
}

template <class T>
void launch_halves(const void* values, int64_t count, void* halves, int32_t* too_large, cudaStream_t stream) {
  constexpr int64_t kMostBlocks = 4096;
  launch(halves_kernel<T>,
         {.blocks = std::min(ceil_div(count, kThreads), kMostBlocks), .threads = kThreads, .stream = stream},
         static_cast<const T*>(values), count, static_cast<__half*>(halves), too_large);
}

/// The even nibbles of a word in its lower half, the odd ones in its upper half.
__device__ uint32_t nibbles_by_parity(uint32_t word) {
  uint32_t halves[2] = {word & 0x0F0F0F0Fu, word >> 4 & 0x0F0F0F0Fu};
  for (uint32_t& half : halves) {
    half = (half | half >> 4) & 0x00FF00FFu;
    half = (half | half >> 8) & 0xFFFFu;
  }
  return halves[0] | halves[1] << 16;
}

__global__ void __launch_bounds__(kThreads) float_words_kernel(const __grid_constant__ FloatCodesProblem p) {
  constexpr uint32_t kSigns = 0x88888888u;
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= p.n * (p.k / 8)) return;
  const uint32_t word = static_cast<const uint32_t*>(p.codes)[i] ^ (p.twos_complement ? kSigns : 0);
  static_cast<uint32_t*>(p.words)[i] = nibbles_by_parity(word);
}

__global__ void __launch_bounds__(kThreads)
    float_groups_kernel(const __grid_constant__ FloatCodesProblem p, int32_t* too_large) {
  constexpr float kLargest = 65504;
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= p.n * (p.k / p.group_size)) return;
  float scale = 1;
  if (p.group_scale) {
    scale = p.half_scale ? __half2float(static_cast<const __half*>(p.group_scale)[i])
                         : static_cast<float>(static_cast<const int8_t*>(p.group_scale)[i]);
  }
  const int zero = p.group_zero ? p.group_zero[i] : 8;
  if (!(fabsf(scale) * static_cast<float>(max(zero, 15 - zero)) <= kLargest)) *too_large = 1;
  static_cast<__half2*>(p.groups)[i] = __floats2half2_rn(scale, static_cast<float>(1024 + zero));
}

}  // namespace

void pack(const PackProblem& problem, cudaStream_t stream) {
  launch(problem.layout.bits == 8 ? pack_kernel<8> : pack_kernel<4>,
         {.blocks = ceil_div(problem.k, kBlockInputs),
          .blocks_y = ceil_div(problem.n, kBlockOutputs),
          .threads = kThreads,
          .stream = stream},
         problem);
}

void pack_outliers(const void* weights, int64_t n, int64_t count, void* packed, cudaStream_t stream) {
  launch(outlier_kernel, {.blocks = n, .threads = kThreads, .stream = stream},
         static_cast<const uint16_t*>(weights), n, count, ceil_div(count, kOutlierColumns),
         static_cast<std::byte*>(packed));
}

void to_halves(const void* values, DType type, int64_t count, void* halves, int32_t* too_large,
               cudaStream_t stream) {
  if (type == DType::kF32) return launch_halves<float>(values, count, halves, too_large, stream);
  if (type == DType::kF16) return launch_halves<__half>(values, count, halves, too_large, stream);
  launch_halves<__nv_bfloat16>(values, count, halves, too_large, stream);
}

void pack_float_codes(const FloatCodesProblem& problem, int32_t* too_large, cudaStream_t stream) {
  const auto shape = [&](int64_t count) {
    return LaunchShape{.blocks = ceil_div(count, kThreads), .threads = kThreads, .stream = stream};
  };
  launch(float_words_kernel, shape(problem.n * (problem.k / 8)), problem);
  launch(float_groups_kernel, shape(problem.n * (problem.k / problem.group_size)), problem, too_large);
}

}  // namespace tessera::cuda
