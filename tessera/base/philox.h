// Philox4x32-10: random numbers as a function of key and counter, without a state.
#pragma once

#include <array>
#include <cstdint>

namespace tessera {

/// Four random words (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Different
/// counters or keys give independent words; the same ones give the same words everywhere.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

/// The number `index` of the stream `seed`: uniform in [0, 1), a multiple of 2^-53.
constexpr double uniform(uint64_t seed, uint64_t index) {
  const std::array<uint32_t, 4> words =
      philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = uint64_t{words[1]} << 32 | words[0];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace tessera
