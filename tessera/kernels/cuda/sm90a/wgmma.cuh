// wgmma of sm_90a: D[64, N] s32 += A[64, 32] s8 (registers) x B[32, N] s8 (shared memory), by one warpgroup.
//
// Fragments of a thread (warp w of the group, lane = 4 g + t; PTX ISA, "wgmma .m64nNk32"):
//   A  a[0], a[1]: rows 16 w + g and + 8, columns 4 t .. 4 t + 3; a[2], a[3]: the same rows, columns + 16
//   D  d[4 i], d[4 i + 1]: row 16 w + g, columns 8 i + 2 t and + 1; d[4 i + 2], d[4 i + 3]: row + 8
#pragma once

#include <cstdint>

#include "tessera/kernels/cuda/sm90a/wgmma_shapes.cuh"

namespace tessera::cuda {

/// Descriptor of a K-major B tile with rows of 128 bytes in the 128-byte swizzle (8-row groups of 1024
/// bytes). `address` is a shared address; advance it by 32 for the next 32 columns.
__device__ __forceinline__ uint64_t tile_descriptor(uint32_t address) {
  constexpr uint64_t kSwizzle128 = 1ull << 62, kGroupStride = 1024ull >> 4, kUnused = 1;
  return kSwizzle128 | kGroupStride << 32 | kUnused << 16 | (address & 0x3FFFF) >> 4;
}

/// The same with rows of 64 bytes in the 64-byte swizzle (8-row groups of 512 bytes), of which every kStep-th
/// group belongs to the tile.
template <int kStep>
__device__ __forceinline__ uint64_t narrow_tile_descriptor(uint32_t address) {
  constexpr uint64_t kSwizzle64 = 2ull << 62, kGroupStride = kStep * 512ull >> 4, kUnused = 1;
  return kSwizzle64 | kGroupStride << 32 | kUnused << 16 | (address & 0x3FFFF) >> 4;
}

/// Keeps the compiler from sinking the computation of operands below this point, between wgmma in flight.
__device__ __forceinline__ void pin_registers(uint32_t (&a)[4]) {
  asm volatile("" : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3])::"memory");
}

/// To follow the wait for the wgmma that read these operands. ptxas (13.0) ends their lifetime where the
/// wgmma is issued, although it reads them later, and gives their registers to other values: wrong sums. So
/// give it a use here, a store that is never executed: `never` is 0, but only at run time. Operands must not
/// be in flight across a loop's back edge: there the compiler may move the value that this keeps to other
/// registers.
__device__ __forceinline__ void keep_registers(const uint32_t (&a)[4], int never) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %4, 0;\n"
      "@p st.shared.v4.b32 [%4], {%0, %1, %2, %3};\n}" ::"r"(a[0]),
      "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(never)
      : "memory");
}

/// Orders register writes before the asynchronous reads of the following wgmma.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most `kPending` committed groups are unfinished.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

}  // namespace tessera::cuda
