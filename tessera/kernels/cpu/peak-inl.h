// Loops that find the limits of the machine, for every instruction set. Included like row_ops-inl.h, behind
// float_matmul-inl.h.
#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

/// Operations (multiplications and additions) of `rounds` rounds over the accumulators of a register tile.
int64_t float_peak(int64_t rounds) {
  constexpr int kSums = 2 * kTileRows;
  Lanes sum[kSums];
  unrolled<kSums>([&](auto i) { sum[i] = Lanes::set(static_cast<float>(i)); });
  const Lanes a = Lanes::set(0.999f), b = Lanes::set(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
    unrolled<kSums>([&](auto i) { sum[i] = fused(sum[i], a, b); });
  }
  Lanes total = Lanes::set(0);
  unrolled<kSums>([&](auto i) { total = total + sum[i]; });
  volatile float sink = tessera::sum(total);  // the result is used
  static_cast<void>(sink);
  return rounds * kSums * kLanes * 2;
}

/// Reads everything; the sum is only there to make it so.
float read_floats(const float* p, int64_t count) {
  constexpr int kSums = 4;
  Lanes sum[kSums];
  unrolled<kSums>([&](auto i) { sum[i] = Lanes::set(0); });
  for (int64_t at = 0; at + kSums * kLanes <= count; at += kSums * kLanes) {
    unrolled<kSums>([&](auto i) {
      __builtin_prefetch(p + at + i * kLanes + 512);  // 2 KiB ahead, as the kernels do
      sum[i] = sum[i] + Lanes::load(p + at + i * kLanes);
    });
  }
  return tessera::sum(sum[0] + sum[1] + sum[2] + sum[3]);
}

}  // namespace
}  // namespace tessera
