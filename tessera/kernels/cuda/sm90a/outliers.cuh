// Outlier columns (QUIK) in the kernel on wgmma: a tile's sums are scaled where they are, in registers, and
// the products of outliers are added to them there, because fragments of int and float sums are alike.
#pragma once

#include "tessera/kernels/cuda/sm90a/epilogue.cuh"
#include "tessera/kernels/cuda/sm90a/wgmma.cuh"

namespace tessera::cuda {

/// A thread's outputs of the groups that its warpgroup finishes.
template <class Own>
using Outputs = float[4 * Own::kMost];

/// Group by group: when the constants of all tokens are loaded first, they do not fit in registers.
template <int kShift, class T, class Own>
__device__ __forceinline__ void scale_sums(const GemmProblem& p, const SharedMemory<T>& shared,
                                           const Own& own, const Consumer& me,
                                           const GroupSums<Own::kMost>& sums, Outputs<Own>& y) {
  const typename T::Constants& constants = shared.constants(me.group);
  const RowConstants rows(constants, false, 0, me);
#pragma unroll
  for (int i = 0; i < Own::kMost; ++i) {
    const int token = own.token(i) + 2 * (me.lane % 4);
    const float2 scale = *reinterpret_cast<const float2*>(constants.token_scale + token);
    int2 zero{};
    if (p.token_zero) zero = *reinterpret_cast<const int2*>(constants.token_zero + token);
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      const int sum = (sums[4 * i + v] >> kShift) - (v % 2 == 0 ? zero.x : zero.y) * rows.row_sum[v / 2];
      float& out = y[4 * i + v];
      out = __fmul_rn(__fmul_rn(static_cast<float>(sum), rows.scale[v / 2]), v % 2 == 0 ? scale.x : scale.y);
      asm volatile("" : "+f"(out)::"memory");
    }
  }
}

/// Adds the products of `blocks` stages of 32 outliers. Every block of a cluster has all of them, and
/// multiplies those of its own tokens.
template <class T, class Own, class Ring>
__device__ __forceinline__ void add_outliers(const SharedMemory<T>& shared, int blocks, const Own& own,
                                             const Consumer& me, int never, Ring& ring, Outputs<Own>& y) {
  constexpr int kStep = 32 >> 4;  // columns in units of the descriptor
  constexpr int kGroupBytes = kSlotTokens * 2 * kOutlierColumns;
#pragma unroll 1
  for (int block = 0; block < blocks; ++block, ring.advance()) {
    ptx::mbarrier_wait(shared.full(ring.stage), ring.parity);
    const uint8_t* codes = shared.stage(ring.stage);
    const uint8_t* strip = codes + T::kCodeBytes + me.group * T::kBlockBytes + me.warp * kOutlierStripBytes;
    const uint64_t values =
        narrow_tile_descriptor<Own::kBlocks>(ptx::shared_address(codes) + own.rank * kGroupBytes);
    uint32_t a[2][4];
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const uint4 words = *reinterpret_cast<const uint4*>(strip + fragment_offset(step, me.lane));
      a[step][0] = words.x;
      a[step][1] = words.y;
      a[step][2] = words.z;
      a[step][3] = words.w;
      pin_registers(a[step]);
    }
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 2; ++step) wgmma<kSlotTokens * Own::kMost>(y, a[step], values + step * kStep);
    wgmma_commit();
    wgmma_wait<0>();
    keep_registers(a[0], never);
    keep_registers(a[1], never);
    __syncwarp();
    if (me.lane == 0) ptx::mbarrier_arrive(shared.empty(ring.stage));
  }
}

/// Adds the bias and writes the outputs to shared memory, token by token, from `to` on.
template <class Out, class Own>
__device__ __forceinline__ void pack_values(const RowConstants& rows, const Consumer& me, uint8_t* to,
                                            const Outputs<Own>& y) {
  uint32_t address = ptx::shared_address(to) + packed_offset(me.lane % 8, 2 * me.warp + me.lane / 8 % 2);
#pragma unroll
  for (int i = 0; i < 4 * Own::kMost; i += 4, address += kSlotTokens * kBlockOutputs * 2) {
    ptx::store_matrices_transposed(
        address, pack_pair<Out>(__fadd_rn(y[i], rows.bias[0]), __fadd_rn(y[i + 1], rows.bias[0])),
        pack_pair<Out>(__fadd_rn(y[i + 2], rows.bias[1]), __fadd_rn(y[i + 3], rows.bias[1])));
  }
}

/// Scales the sums of a tile's 64-row block, adds the outliers and the bias, and writes 16-bit outputs to
/// shared memory.
template <int kShift, class T, class Own, class Ring>
__device__ __forceinline__ void pack_with_outliers(const GemmProblem& p, int blocks,
                                                   const SharedMemory<T>& shared, const Own& own,
                                                   const Consumer& me, int never, Ring& ring, uint8_t* to,
                                                   const GroupSums<Own::kMost>& sums) {
  static_assert(T::kRowBlocks == 1 && T::kInputGroups == 1 && Own::kLocal % Own::kBlocks == 0);
  Outputs<Own> y;
  scale_sums<kShift>(p, shared, own, me, sums, y);
  add_outliers(shared, blocks, own, me, never, ring, y);
  const RowConstants rows(shared.constants(me.group), p.weights.bias != nullptr, 0, me);
  if (p.output == OutputType::kHalf) {
    pack_values<__half, Own>(rows, me, to, y);
  } else {
    pack_values<__nv_bfloat16, Own>(rows, me, to, y);
  }
}

}  // namespace tessera::cuda
