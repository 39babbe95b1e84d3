// Four-bit codes on their way into packed weights, on host and device.
#pragma once

#include <cstdint>

namespace tessera::cuda {

/// The four nibbles of `pairs`, low ones first, one a byte.
constexpr uint32_t spread_nibbles(uint32_t pairs) {
  const uint32_t apart = (pairs & 0xff) | (pairs & 0xff00) << 8;
  return (apart | apart << 4) & 0x0F0F0F0F;
}

/// How far down the codes and the zero point of a group move, so that 128 - scale * zero is no less than 0.
/// All codes reach so far: scale * (code - zero) >= -128.
constexpr int group_shift(int scale, int zero) {
  const int lowest = zero - 128 / scale;
  return lowest > 0 ? lowest : 0;
}

}  // namespace tessera::cuda
