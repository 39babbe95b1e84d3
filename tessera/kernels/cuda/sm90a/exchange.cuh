// The sums of an output tile that several members share along K: who finishes what, and how sums get there.
#pragma once

#include "tessera/kernels/cuda/ptx.cuh"
#include "tessera/kernels/cuda/sm90a/tile.cuh"

namespace tessera::cuda {

// --- who finishes what ---------------------------------------------------------------------------------

/// The groups of 8 tokens in a tile that this warpgroup finishes. Members share them out, group i is number i
/// / kMembers of member i % kMembers: the blocks of a cluster that share K, or, where warpgroups share it as
/// well (T::kInputGroups), each of their warpgroups.
template <class T, int kSplit>
struct Ownership {
  static constexpr int kBlocks = kSplit, kMembers = T::kInputGroups * kSplit;
  static constexpr int kGroups = T::kTokens / kSlotTokens;
  /// Groups that a member finishes at most.
  static constexpr int kMost = static_cast<int>(ceil_div(kGroups, kMembers));
  /// The first slot in which a block transposes its groups: behind those in which it receives.
  static constexpr int kTransposeSlot = T::kLocalSlots + (kSplit - 1) * kMost;
  int rank, group;  ///< of this block in the cluster, of this warpgroup among those that share K

  __device__ __forceinline__ Ownership(int cluster_rank, int warpgroup)
      : rank(cluster_rank), group(T::kInputGroups > 1 ? warpgroup : 0) {}
  /// This warpgroup in block `block` of the cluster, as a member.
  __device__ __forceinline__ int member(int block) const { return block * T::kInputGroups + group; }
  __device__ __forceinline__ bool owns(int block, int i) const { return i % kMembers == member(block); }
  /// Groups that this warpgroup finishes.
  __device__ __forceinline__ int count() const { return (kGroups - member(rank) + kMembers - 1) / kMembers; }
  /// The first token of the group with this number.
  __device__ __forceinline__ int token(int number) const {
    return kSlotTokens * (number * kMembers + member(rank));
  }
  /// The first slot in which block `owner` receives from this block; then one a group.
  __device__ __forceinline__ int first_slot_at(int owner) const {
    return T::kLocalSlots + (rank - (rank > owner)) * kMost;
  }
};

/// Other blocks of the cluster where a warpgroup owns groups: those that it sends to.
template <class T>
__device__ __forceinline__ int receivers(int split, int rank, int warpgroup) {
  constexpr int kGroups = T::kTokens / kSlotTokens;
  const int group = T::kInputGroups > 1 ? warpgroup : 0;
  const int owners = min(split, (kGroups - group + T::kInputGroups - 1) / T::kInputGroups);
  return owners - (rank * T::kInputGroups + group < kGroups ? 1 : 0);
}

// --- sum over the members ------------------------------------------------------------------------------

/// Adds the group i of somebody else's sums.
template <int kSums>
__device__ __forceinline__ void add_slot(const uint8_t* slot, const Consumer& me, int i, int (&d)[kSums]) {
  const int4 part = reinterpret_cast<const int4*>(slot)[me.thread()];
  d[4 * i] += part.x;
  d[4 * i + 1] += part.y;
  d[4 * i + 2] += part.z;
  d[4 * i + 3] += part.w;
}

/// Adds up what the warpgroups of a block have, each the groups whose number is its own modulo kInputGroups.
template <class T>
__device__ __forceinline__ void sum_within_block(const SharedMemory<T>& shared, const Consumer& me,
                                                 int (&d)[T::kTokens / 2]) {
  constexpr int kCount = T::kInputGroups, kGroups = T::kTokens / kSlotTokens, kMost = kGroups / kCount;
  static_assert(kGroups % kCount == 0);
  ptx::group_sync(1 + kCount, 128 * kCount);  // everybody has read the slots
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const int owner = i % kCount;
    if (owner == me.group) continue;
    const int slot = (me.group - (me.group > owner)) * kMost + i / kCount;
    reinterpret_cast<int4*>(shared.slot(owner, slot))[me.thread()] =
        make_int4(d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]);
  }
  ptx::group_sync(1 + kCount, 128 * kCount);
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    if (i % kCount != me.group) continue;
#pragma unroll
    for (int peer = 0; peer + 1 < kCount; ++peer) {
      add_slot(shared.slot(me.group, peer * kMost + i / kCount), me, i, d);
    }
  }
}

/// Sends the groups that others own. `round` counts the exchanges: the slots of the round before must have
/// been read.
template <class T, class Own>
__device__ __forceinline__ void send_sums(const SharedMemory<T>& shared, const Own& own, const Consumer& me,
                                          uint32_t round, const int (&d)[T::kTokens / 2]) {
  if (round == 0) ptx::cluster_wait();  // everybody has started
  if (round > 0 && receivers<T>(Own::kBlocks, own.rank, me.group) > 0)
    ptx::mbarrier_wait(shared.read(me.group), (round - 1) & 1);
#pragma unroll
  for (int owner = 0; owner < Own::kBlocks; ++owner) {
    if (owner == own.rank) continue;
    const uint32_t local =
        ptx::shared_address(shared.slot(me.group, own.first_slot_at(owner))) + me.thread() * 16;
    const uint32_t to = ptx::map_shared(local, owner);
    const uint32_t barrier = ptx::map_shared(shared.received(me.group), owner);
#pragma unroll
    for (int i = 0; i < Own::kGroups; ++i) {
      if (!own.owns(owner, i)) continue;
      ptx::store_remote(to + i / Own::kMembers * kSlotBytes, d[4 * i], d[4 * i + 1], d[4 * i + 2],
                        d[4 * i + 3], barrier);
    }
  }
}

/// Adds what others sent to the groups that this block owns, then tells the senders. A block that owns
/// nothing tells nothing: its peers' barriers then advance no further than they wait for.
template <class T, class Own>
__device__ __forceinline__ void receive_sums(const SharedMemory<T>& shared, const Own& own,
                                             const Consumer& me, uint32_t round, int (&d)[T::kTokens / 2]) {
  constexpr int kPeers = Own::kBlocks - 1;
  if (own.count() == 0) return;
  if (me.thread() == 0)
    ptx::mbarrier_arrive_expect(shared.received(me.group), kPeers * own.count() * kSlotBytes);
  ptx::mbarrier_wait(shared.received(me.group), round & 1);
#pragma unroll 1
  for (int peer = 0; peer < kPeers; ++peer) {
#pragma unroll
    for (int i = 0; i < Own::kGroups; ++i) {
      if (!own.owns(own.rank, i)) continue;
      add_slot(shared.slot(me.group, T::kLocalSlots + peer * Own::kMost + i / Own::kMembers), me, i, d);
    }
  }
  __syncwarp();
  if (me.lane < Own::kBlocks && me.lane != own.rank) {
    ptx::mbarrier_arrive_remote(ptx::map_shared(shared.read(me.group), me.lane));
  }
}

}  // namespace tessera::cuda
