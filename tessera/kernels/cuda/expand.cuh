// Weight codes in shared memory -> int8 operands of mma or wgmma in registers, one struct a weight layout.
//
// Each has: kLayout; kCodeBits, the width of the codes that it is multiplied with; Raw, what a lane keeps of
// 64 inputs of a strip before expansion; load(), and expand() into the operand of the product of its first or
// second 32 inputs (`step`; `never` is 0); kShift, by which accumulators are too large (as a power of two).
#pragma once

#include <cstdint>

#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda {

/// 8-bit codes are operands already. The xor with 0 makes them values of their own: else the products would
/// read the registers into which the next stage is loaded (see keep_registers).
struct Int8Weights {
  static constexpr WeightLayout kLayout{8, 0};
  static constexpr int kCodeBits = 8, kShift = 0;
  struct Raw {
    uint4 step[2];
  };
  static __device__ __forceinline__ Raw load(const uint8_t* strip, int half, int lane) {
    return {*reinterpret_cast<const uint4*>(strip + fragment_offset(2 * half, lane)),
            *reinterpret_cast<const uint4*>(strip + fragment_offset(2 * half + 1, lane))};
  }
  static __device__ __forceinline__ void expand(const Raw& raw, int step, int never, uint32_t (&a)[4]) {
    a[0] = raw.step[step].x ^ never;
    a[1] = raw.step[step].y ^ never;
    a[2] = raw.step[step].z ^ never;
    a[3] = raw.step[step].w ^ never;
  }
};

/// Two's complement nibbles, moved to the high half of their bytes: w8 = 16 q (QQQ, weights at rest), so
/// three instructions expand eight codes and the accumulator is 16 times too large, exactly.
struct Int4Weights {
  static constexpr WeightLayout kLayout{4, 0};
  static constexpr int kCodeBits = 8, kShift = 4;
  struct Raw {
    uint4 codes;
  };
  static __device__ __forceinline__ Raw load(const uint8_t* strip, int half, int lane) {
    return {*reinterpret_cast<const uint4*>(strip + fragment_offset(half, lane))};
  }
  static __device__ __forceinline__ void expand(const Raw& raw, int step, int /*never*/, uint32_t (&a)[4]) {
    const uint32_t words[2] = {step == 0 ? raw.codes.x : raw.codes.z, step == 0 ? raw.codes.y : raw.codes.w};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      a[2 * i] = words[i] << 4 & 0xF0F0F0F0u;
      a[2 * i + 1] = words[i] & 0xF0F0F0F0u;
    }
  }
};

/// Offset nibbles with an integer scale and zero point a group. Four bytes at once (DGQ, "expansion"):
///   w8 = (u * S + F) xor 0x80808080,  F = 128 - S * zero in every byte (packed_weights.h)
/// exact because every w8 + 128 is a digit 0..255 of the base-256 number, whatever carries occur on the way.
template <int kGroupSize>
struct GroupedWeights {
  static constexpr WeightLayout kLayout{4, kGroupSize};
  static constexpr int kCodeBits = 8, kShift = 0;
  static constexpr int kGroups = kGroupSize < 64 ? 2 : 1;  ///< groups in 64 inputs
  struct Raw {
    uint4 codes;
    uint32_t parameters[kGroups];
  };
  static __device__ __forceinline__ Raw load(const uint8_t* strip, int half, int lane) {
    Raw raw;
    raw.codes = *reinterpret_cast<const uint4*>(strip + fragment_offset(half, lane));
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const int group = (64 * half + 32 * i) / kGroupSize;
      raw.parameters[i] = *reinterpret_cast<const uint32_t*>(strip + group_offset(group, lane / 4));
    }
    return raw;
  }
  static __device__ __forceinline__ void expand(const Raw& raw, int step, int /*never*/, uint32_t (&a)[4]) {
    const uint32_t words[2] = {step == 0 ? raw.codes.x : raw.codes.z, step == 0 ? raw.codes.y : raw.codes.w};
    const uint32_t parameters = raw.parameters[step % kGroups];
    uint32_t scale[2], offset[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      scale[row] = __byte_perm(parameters, 0, row == 0 ? 0x4440 : 0x4442);
      offset[row] = __byte_perm(parameters, 0, row == 0 ? 0x1111 : 0x3333);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t low = words[i] & 0x0F0F0F0Fu, high = words[i] >> 4 & 0x0F0F0F0Fu;
      a[2 * i] = (low * scale[0] + offset[0]) ^ 0x80808080u;
      a[2 * i + 1] = (high * scale[1] + offset[1]) ^ 0x80808080u;
    }
  }
};

}  // namespace tessera::cuda
