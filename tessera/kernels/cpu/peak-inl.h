// Loops that find the limits of the machine, for every instruction set. Included like row_ops-inl.h, behind
// float_matmul-inl.h.
#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

/// Operations (multiplications and additions) of `rounds` rounds over some accumulators.
int64_t float_peak(int64_t rounds) {
  constexpr int kSums = kTileRows > 6 ? 16 : 5;  // enough for the latency, few enough for the registers
  Lanes lanes[kSums];
  for (int i = 0; i < kSums; ++i) lanes[i] = Lanes::set(static_cast<float>(i));
  const Lanes a = Lanes::set(0.999f), b = Lanes::set(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
    for (Lanes& l : lanes) l = fused(l, a, b);
  }
  for (int i = 1; i < kSums; ++i) lanes[0] = lanes[0] + lanes[i];
  volatile float sink = sum(lanes[0]);  // the result is used
  static_cast<void>(sink);
  return rounds * kSums * kLanes * 2;
}

/// Reads everything; the sum is only there to make it so.
float read_floats(const float* p, int64_t count) {
  constexpr int kSums = 4;
  Lanes lanes[kSums];
  for (Lanes& l : lanes) l = Lanes::set(0);
  for (int64_t at = 0; at + kSums * kLanes <= count; at += kSums * kLanes) {
    for (int i = 0; i < kSums; ++i) {
      __builtin_prefetch(p + at + i * kLanes + 512);  // 2 KiB ahead, as the kernels do
      lanes[i] = lanes[i] + Lanes::load(p + at + i * kLanes);
    }
  }
  return sum(lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}

}  // namespace
}  // namespace tessera
