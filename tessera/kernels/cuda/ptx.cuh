// Thin wrappers around the PTX instructions that the kernels need: one function an instruction, named after
// it.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace tessera::cuda::ptx {

/// Address in the shared window, as PTX wants it.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// --- mbarriers -----------------------------------------------------------------------------------------

__device__ __forceinline__ void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// Makes initialised barriers visible to the cluster and to the copy engine.
__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Arrives and announces `bytes` that asynchronous copies will bring.
__device__ __forceinline__ void mbarrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

/// Arrives at a barrier of any block of the cluster; `barrier` is a cluster address (see map_shared).
__device__ __forceinline__ void mbarrier_arrive_remote(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// True when the phase with this parity has completed.
__device__ __forceinline__ bool mbarrier_test(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.b32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

/// Waits until the phase with this parity has completed.
__device__ __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// --- asynchronous copies into shared memory ------------------------------------------------------------

/// L2 eviction priorities, as the copy instructions encode them.
constexpr uint64_t kEvictFirst = 0x12F0000000000000ull;
constexpr uint64_t kEvictLast = 0x14F0000000000000ull;

/// Copies `bytes` (a multiple of 16, both sides 16-byte aligned) and completes them on `barrier`.
__device__ __forceinline__ void bulk_copy(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier,
                                          uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
      "[%3], %4;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}

/// Starts to bring `bytes` (a multiple of 16, 16-byte aligned) into L2; nothing before 9.0.
__device__ __forceinline__ void prefetch_bulk([[maybe_unused]] const void* from,
                                              [[maybe_unused]] uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

/// Copies a word; this thread waits for its copies with wait_for_words.
__device__ __forceinline__ void copy_word(uint32_t to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
__device__ __forceinline__ void wait_for_words() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

/// Copies the box at (x, y) of a two-dimensional tensor map.
__device__ __forceinline__ void tensor_copy(uint32_t to, const CUtensorMap* map, int x, int y,
                                            uint32_t barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, "
      "{%2, %3}], "
      "[%4], %5;" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(barrier), "l"(policy)
      : "memory");
}

/// Stores shared memory as the box at (x, y) of a tensor map; what lies beyond the tensor is left out. What
/// threads wrote must have been made visible by fence_async_copies before they met.
__device__ __forceinline__ void tensor_store(const CUtensorMap* map, int x, int y, uint32_t from) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];\n"
      "cp.async.bulk.commit_group;" ::"l"(map),
      "r"(x), "r"(y), "r"(from)
      : "memory");
}

/// Waits until the stores of this thread have read shared memory.
__device__ __forceinline__ void wait_for_tensor_stores() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

/// Makes what this thread wrote to shared memory visible to the copy engine.
__device__ __forceinline__ void fence_async_copies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// Copies 16 bytes (both sides 16-byte aligned) past the registers and L1; writes zeros and reads nothing
/// when not `live`.
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, bool live) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(live ? 16 : 0)
               : "memory");
}

/// Ends a group of this thread's copies.
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most kGroups groups of this thread's copies are under way.
template <int kGroups>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// --- within a warp -------------------------------------------------------------------------------------

/// True in one lane of a converged warp. Unlike a test of the lane index it tells the compiler that what
/// follows is uniform, so that the operands of copies stay in uniform registers.
__device__ __forceinline__ bool elect_lane() {
  uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xFFFFFFFF;\nselp.b32 %0, 1, 0, p;\n}" : "=r"(elected));
  return elected != 0;
}

// --- products of a warp ----------------------------------------------------------------------------------

/// Loads four 8x8 matrices of 16-bit elements (rows of 16 bytes); lane l holds the address of row l % 8 of
/// matrix l / 8 and receives word l % 4 of row l / 4 of each.
__device__ __forceinline__ void load_matrices(uint32_t (&words)[4], uint32_t row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(row_address)
               : "memory");
}

/// Stores two 8x8 matrices of 16-bit elements transposed: of each, lane 4 g + t holds elements (g, 2 t) and
/// (g, 2 t + 1) of a pair; lanes 0..7 and 8..15 hold the addresses at which column l % 8 of the first and
/// second is stored.
__device__ __forceinline__ void store_matrices_transposed(uint32_t column_address, uint32_t first,
                                                          uint32_t second) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(column_address),
               "r"(first), "r"(second)
               : "memory");
}

/// D[16, 8] s32 += A[16, 32] s8 x B[32, 8] s8. Fragments of lane 4 g + t: a[0], a[1] rows g and g + 8, inputs
/// 4 t .. 4 t + 3; a[2], a[3] the same rows, inputs + 16; b0, b1 the same inputs of column g; d[0], d[1] row
/// g, columns 2 t and + 1; d[2], d[3] row g + 8.
__device__ __forceinline__ void mma(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
      "%1, "
      "%2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// D[16, 8] s32 += A[16, 64] s4 x B[64, 8] s4. Fragments as above with 4-bit elements, eight a word: a[0], b0
/// inputs 8 t .. 8 t + 7; a[2], b1 the same + 32. One instruction on 8.0 to 8.9, emulated (some 200
/// instructions) from 9.0 on.
__device__ __forceinline__ void mma_s4(int (&d)[4], const uint4& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
      "%1, "
      "%2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

/// D[16, 8] f32 += A[16, 16] f16 x B[16, 8] f16. Fragments as above with 16-bit elements: a[0], a[1] rows g
/// and g + 8, columns 2 t and + 1; a[2], a[3] the same rows, columns + 8; b0, b1 the same columns.
__device__ __forceinline__ void mma(float (&d)[4], const uint4& a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
      "%1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// --- bits ----------------------------------------------------------------------------------------------

/// (first & mask) | (second & ~mask) in one instruction, which the compiler does not find for a constant
/// mask.
__device__ __forceinline__ uint32_t select_bits(uint32_t first, uint32_t second, uint32_t mask) {
  uint32_t bits;
  asm("lop3.b32 %0, %1, %2, %3, 0xE4;" : "=r"(bits) : "r"(first), "r"(second), "r"(mask));
  return bits;
}

// --- clusters ------------------------------------------------------------------------------------------

__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ uint32_t cluster_size() {
  uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}

__device__ __forceinline__ uint32_t cluster_index() {
  uint32_t index;
  asm("mov.u32 %0, %%clusterid.x;" : "=r"(index));
  return index;
}

__device__ __forceinline__ uint32_t cluster_count() {
  uint32_t count;
  asm("mov.u32 %0, %%nclusterid.x;" : "=r"(count));
  return count;
}

/// Waits for all threads of the cluster. Orders no ordinary writes: see fence_mbarrier_init.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// The two halves of a barrier of all threads of the cluster. What they did before arriving is seen after
/// waiting.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
/// The same when only the initialisation of mbarriers is to be seen.
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// The cluster address of the same shared-memory location in block `rank`.
__device__ __forceinline__ uint32_t map_shared(uint32_t address, uint32_t rank) {
  uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}

/// Stores 16 bytes in a block of the cluster and completes them on its `barrier` (both cluster addresses), so
/// that waiting there suffices to see them.
__device__ __forceinline__ void store_remote(uint32_t address, int a, int b, int c, int d, uint32_t barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.s32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
          address),
      "r"(a), "r"(b), "r"(c), "r"(d), "r"(barrier)
      : "memory");
}

// --- within a block ------------------------------------------------------------------------------------

/// Barrier of as many threads, a warpgroup or several, that name the same `id`, 0 .. 15. Their warps may come
/// to it from different places.
__device__ __forceinline__ void group_sync(int id, int threads = 128) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// --- registers -----------------------------------------------------------------------------------------

/// Lowers or raises the registers of each thread of this warpgroup to kCount.
template <int kCount>
__device__ __forceinline__ void release_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void claim_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// --- overlapping launches ------------------------------------------------------------------------------

/// Lets the next kernel of the stream start its prologue; nothing before 9.0.
__device__ __forceinline__ void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Waits until the kernels before this one have finished; returns at once after an ordinary launch.
__device__ __forceinline__ void wait_for_predecessors() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace tessera::cuda::ptx
