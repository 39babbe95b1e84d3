// The sums of an output tile that several members share along K: who finishes what, and how sums get there.
#pragma once

#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/sm90a/tile.cuh"

namespace tessera::cuda {

// --- who finishes what ---------------------------------------------------------------------------------

/// The groups of 8 tokens in a tile that this warpgroup finishes. Members share them out, group i is number i
/// / members of member i % members: the blocks of a cluster that share K, or, where warpgroups share it as
/// well (T::kInputGroups), each of their warpgroups. First come a warpgroup's groups within its block, of
/// which every kSplit-th is its own. All of this is known at compile time but the rank, so that sums stay in
/// registers.
template <class T, int kSplit>
struct Ownership {
  static constexpr int kBlocks = kSplit, kLocal = T::kLocalGroups;
  /// Groups that a member finishes at most.
  static constexpr int kMost = static_cast<int>(ceil_div(kLocal, kSplit));
  static_assert(kLocal >= kSplit, "otherwise a member has nothing to finish");
  int rank, group;  ///< of this block in the cluster, of this warpgroup among those that share K

  __device__ __forceinline__ Ownership(int cluster_rank, int warpgroup)
      : rank(cluster_rank), group(T::kInputGroups > 1 ? warpgroup : 0) {}
  /// Groups that this warpgroup finishes.
  __device__ __forceinline__ int count() const {
    return kLocal % kSplit == 0 ? kMost : (kLocal - rank + kSplit - 1) / kSplit;
  }
  /// The first token of the group with this number.
  __device__ __forceinline__ int token(int number) const {
    return kSlotTokens * ((number * kSplit + rank) * T::kInputGroups + group);
  }
  /// The first slot in which block `owner` receives from this block; then one a group.
  __device__ __forceinline__ int first_slot_at(int owner) const {
    return T::kLocalSlots + (rank - (rank > owner)) * kMost;
  }
};

/// Accumulators of `kGroups` groups of 8 tokens x 64 outputs, as wgmma leaves them.
template <int kGroups>
using GroupSums = int[4 * kGroups];

// --- sum over the members ------------------------------------------------------------------------------

/// Adds somebody else's sums to the group i.
template <int kSums>
__device__ __forceinline__ void add_slot(const uint8_t* slot, const Consumer& me, int i, int (&d)[kSums]) {
  const int4 part = reinterpret_cast<const int4*>(slot)[me.thread()];
  d[4 * i] += part.x;
  d[4 * i + 1] += part.y;
  d[4 * i + 2] += part.z;
  d[4 * i + 3] += part.w;
}

/// Takes every kStep-th group from the `first`-th on, which is only known at run time: by selection, since
/// registers have no addresses.
template <int kStep, int kFrom, int kTo>
__device__ __forceinline__ void take_groups(const int (&from)[kFrom], int first, int (&to)[kTo]) {
#pragma unroll
  for (int i = 0; i < kTo; ++i) {
    const int at = 4 * kStep * (i / 4) + i % 4;
    to[i] = from[at];
#pragma unroll
    for (int candidate = 1; candidate < kStep; ++candidate) {
      if (at + 4 * candidate < kFrom) to[i] = first == candidate ? from[at + 4 * candidate] : to[i];
    }
  }
}

/// Adds up what the warpgroups of a block have, each the groups whose number is its own modulo kInputGroups.
template <class T>
__device__ __forceinline__ void sum_within_block(const SharedMemory<T>& shared, const Consumer& me,
                                                 const int (&d)[T::kTokens / 2],
                                                 GroupSums<T::kLocalGroups>& sums) {
  constexpr int kCount = T::kInputGroups, kAtOnce = T::kGroupsAtOnce;
  take_groups<kCount>(d, me.group, sums);
#pragma unroll
  for (int first = 0; first < T::kLocalGroups; first += kAtOnce) {
    const int count = min(kAtOnce, T::kLocalGroups - first);
    ptx::group_sync(1 + kCount, 128 * kCount);  // everybody has read the slots
#pragma unroll
    for (int i = kCount * first; i < kCount * (first + count); ++i) {
      const int owner = i % kCount;
      if (owner == me.group) continue;
      const int slot = (me.group - (me.group > owner)) * kAtOnce + i / kCount - first;
      reinterpret_cast<int4*>(shared.slot(owner, slot))[me.thread()] =
          make_int4(d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]);
    }
    ptx::group_sync(1 + kCount, 128 * kCount);
#pragma unroll
    for (int sender = 0; sender < kCount - 1; ++sender) {
#pragma unroll
      for (int i = 0; i < count; ++i)
        add_slot(shared.slot(me.group, sender * kAtOnce + i), me, first + i, sums);
    }
  }
}

/// Sends the groups that others own. `round` counts the exchanges: the slots of the round before must be
/// free.
template <class T, class Own>
__device__ __forceinline__ void send_sums(const SharedMemory<T>& shared, const Own& own, const Consumer& me,
                                          uint32_t round, const int (&sums)[4 * Own::kLocal]) {
  if (round == 0) ptx::cluster_wait();  // everybody has started
  if (round > 0) ptx::mbarrier_wait(shared.free(me.group), (round - 1) & 1);
#pragma unroll
  for (int owner = 0; owner < Own::kBlocks; ++owner) {
    if (owner == own.rank) continue;
    const uint32_t local =
        ptx::shared_address(shared.slot(me.group, own.first_slot_at(owner))) + me.thread() * 16;
    const uint32_t to = ptx::map_shared(local, owner);
    const uint32_t barrier = ptx::map_shared(shared.received(me.group), owner);
#pragma unroll
    for (int i = owner; i < Own::kLocal; i += Own::kBlocks) {
      ptx::store_remote(to + i / Own::kBlocks * kSlotBytes, sums[4 * i], sums[4 * i + 1], sums[4 * i + 2],
                        sums[4 * i + 3], barrier);
    }
  }
}

/// Adds what others sent to the groups that this block owns.
template <class T, class Own>
__device__ __forceinline__ void receive_sums(const SharedMemory<T>& shared, const Own& own,
                                             const Consumer& me, uint32_t round,
                                             GroupSums<Own::kMost>& sums) {
  constexpr int kPeers = Own::kBlocks - 1;
  if (me.thread() == 0)
    ptx::mbarrier_arrive_expect(shared.received(me.group), kPeers * own.count() * kSlotBytes);
  ptx::mbarrier_wait(shared.received(me.group), round & 1);
#pragma unroll
  for (int i = 0; i < Own::kMost; ++i) {
    if (i == own.count()) break;
#pragma unroll
    for (int peer = 0; peer < kPeers; ++peer)
      add_slot(shared.slot(me.group, T::kLocalSlots + peer * Own::kMost + i), me, i, sums);
  }
}

/// Tells the senders that this warp no longer needs the slots.
template <class T, class Own>
__device__ __forceinline__ void free_slots(const SharedMemory<T>& shared, const Own& own,
                                           const Consumer& me) {
  __syncwarp();
  if (me.lane < Own::kBlocks && me.lane != own.rank) {
    ptx::mbarrier_arrive_remote(ptx::map_shared(shared.free(me.group), me.lane));
  }
}

/// From this warpgroup's sums over its part of K to those over all of K, of the groups that it finishes.
template <class T, class Own>
__device__ __forceinline__ void sum_members(const SharedMemory<T>& shared, const Own& own, const Consumer& me,
                                            uint32_t round, const int (&d)[T::kTokens / 2],
                                            GroupSums<Own::kMost>& sums) {
  GroupSums<Own::kLocal> local;
  if constexpr (T::kInputGroups > 1) {
    sum_within_block(shared, me, d, local);
  } else {
    take_groups<1>(d, 0, local);
  }
  if constexpr (Own::kBlocks > 1) send_sums(shared, own, me, round, local);
  take_groups<Own::kBlocks>(local, own.rank, sums);
  if constexpr (Own::kBlocks > 1) receive_sums(shared, own, me, round, sums);
}

}  // namespace tessera::cuda
