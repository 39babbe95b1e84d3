// Codes of a few bits in 32-bit words, as PyTorch tools store them.
#pragma once

#include <cstdint>
#include <span>

#include "tessera/base/parallel.h"
#include "tessera/format/foreign/affine_weights.h"

namespace tessera::foreign {

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

/// codes [N, K] of `w` from code(n, k), in an order that suits tensors with the outputs in their rows as well
/// as those with the inputs.
template <class Code>
void fill_codes(AffineWeights& w, const Code& code) {
  constexpr int64_t kOutputs = 64;
  w.codes.resize(static_cast<size_t>(w.n * w.k));
  parallel_for((w.n + kOutputs - 1) / kOutputs, [&](int64_t block) {
    const int64_t begin = block * kOutputs, end = std::min(w.n, begin + kOutputs);
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
