// Four-bit codes as bytes, on host and device.
#pragma once

#include <cstdint>

namespace tessera::cuda {

/// The four nibbles of `pairs`, low ones first, one a byte.
constexpr uint32_t spread_nibbles(uint32_t pairs) {
  const uint32_t apart = (pairs & 0xff) | (pairs & 0xff00) << 8;
  return (apart | apart << 4) & 0x0F0F0F0F;
}

}  // namespace tessera::cuda
