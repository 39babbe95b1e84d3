// Codes of a few bits in 32-bit words, as PyTorch tools store them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "tessera/base/parallel.h"
#include "tessera/format/foreign/affine_weights.h"

namespace tessera::foreign {

/// Calls body(begin, end) for blocks of up to 64 of `n` rows or columns: of a matrix walked along its other
/// side, what such a block touches stays in the cache.
template <class Body>
void parallel_blocks(int64_t n, const Body& body) {
  constexpr int64_t kBlock = 64;
  parallel_for((n + kBlock - 1) / kBlock,
               [&](int64_t block) { body(block * kBlock, std::min(n, (block + 1) * kBlock)); });
}

/// Codes of `bits` bits (2 to 8), one behind the other from the lowest bit of the first word on; one may
/// straddle two words.
class PackedFields {
 public:
  /// The words are words[first], words[first + stride], ...
  PackedFields(std::span<const int32_t> words, int64_t first, int64_t stride, int bits)
      : words_(words), first_(first), stride_(stride), bits_(bits) {}

  uint8_t operator[](int64_t i) const {
    const int64_t bit = i * bits_, word = bit / 32, shift = bit % 32;
    uint64_t pair = at(word);
    if (shift + bits_ > 32) pair |= uint64_t{at(word + 1)} << 32;
    return static_cast<uint8_t>(pair >> shift & ((1u << bits_) - 1));
  }

  /// Words that hold `count` codes.
  static int64_t words(int64_t count, int bits) { return (count * bits + 31) / 32; }

 private:
  uint32_t at(int64_t word) const {
    return static_cast<uint32_t>(words_[static_cast<size_t>(first_ + word * stride_)]);
  }

  std::span<const int32_t> words_;
  int64_t first_, stride_;
  int bits_;
};

/// The inverse: code(0), ..., code(count - 1) of `bits` bits each into words[first], words[first + stride],
/// ...
template <class Code>
void pack_fields(std::span<int32_t> words, int64_t first, int64_t stride, int bits, int64_t count,
                 const Code& code) {
  uint64_t pending = 0;  // the lowest `filled` bits
  int filled = 0;
  const auto store = [&] {
    words[static_cast<size_t>(first)] = static_cast<int32_t>(static_cast<uint32_t>(pending));
    first += stride;
  };
  for (int64_t i = 0; i < count; ++i) {
    pending |= uint64_t{code(i)} << filled;
    filled += bits;
    if (filled < 32) continue;
    store();
    pending >>= 32;
    filled -= 32;
  }
  if (filled > 0) store();
}

/// codes [N, K] of `w` from code(n, k), in an order that suits tensors with the outputs in their rows as well
/// as those with the inputs.
template <class Code>
void fill_codes(AffineWeights& w, const Code& code) {
  w.codes.resize(static_cast<size_t>(w.n * w.k));
  parallel_blocks(w.n, [&](int64_t begin, int64_t end) {
    for (int64_t k = 0; k < w.k; ++k) {
      for (int64_t n = begin; n < end; ++n) w.codes[static_cast<size_t>(n * w.k + k)] = code(n, k);
    }
  });
}

/// zeros [N, groups] of `w` from zero(n, g).
template <class Zero>
void fill_zeros(AffineWeights& w, const Zero& zero) {
  w.zeros.resize(static_cast<size_t>(w.n * w.groups));
  for (int64_t n = 0; n < w.n; ++n) {
    for (int64_t g = 0; g < w.groups; ++g) w.zeros[static_cast<size_t>(n * w.groups + g)] = zero(n, g);
  }
}

/// scales [N, groups] of `w` from [groups, N].
inline void transpose_scales(AffineWeights& w, std::span<const float> scales) {
  w.scales.resize(scales.size());
  for (int64_t n = 0; n < w.n; ++n) {
    for (int64_t g = 0; g < w.groups; ++g)
      w.scales[static_cast<size_t>(n * w.groups + g)] = scales[static_cast<size_t>(g * w.n + n)];
  }
}

}  // namespace tessera::foreign
