// GGUF blocks. Layouts: ggml's block_q4_0 and its relatives; source/gguf_blocks.cc decodes them.
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>

#include "tessera/format/foreign/writing.h"

namespace tessera::foreign {
namespace {

constexpr int64_t kBlock = 32;
constexpr int64_t kSuperBlock = 256;

/// A type of blocks.
struct BlockType {
  const char* name;     ///< as ggml has it
  const char* variant;  ///< as --to has it
  int64_t elements;     ///< of a block
  int64_t bytes;        ///< of a block
  int bits;             ///< of a code, at most
  /// Writes the block of output n whose first input is k.
  void (*encode)(const AffineWeights& w, int64_t n, int64_t k, Narrowing& narrowing, std::byte* block);
};

void put(std::byte* at, Half value) {
  std::memcpy(at, &value.bits, sizeof value.bits);
}

/// Scale and zero point of the inputs from k on, which are in one group.
struct Group {
  double scale;
  int zero;
  int64_t index;
};
Group group_at(const AffineWeights& w, int64_t n, int64_t k) {
  const int64_t g = k / w.group_size();
  return {w.scales[static_cast<size_t>(n * w.groups + g)], zero_at(w, n, g), g};
}

/// 32 codes as nibbles: the first 16 low, the others high. A code u becomes turn * u + shift.
void put_nibbles(const AffineWeights& w, int64_t n, int64_t k, int turn, int shift, std::byte* to) {
  const auto code = [&](int64_t i) { return turn * code_at(w, n, k + i) + shift; };
  for (int64_t i = 0; i < kBlock / 2; ++i)
    to[i] = static_cast<std::byte>(code(i) | code(i + kBlock / 2) << 4);
}

/// w = d * (u - 8). A zero point of 7 is one of 8 with everything turned around.
void encode_q4_0(const AffineWeights& w, int64_t n, int64_t k, Narrowing& narrowing, std::byte* block) {
  const Group group = group_at(w, n, k);
  if (group.zero != 7 && group.zero != 8) {
    throw Error(
        "{}: Q4_0 has no zero point, output {}, group {} has {}; --to gguf:q4_k holds some, gptq_v2 all",
        w.where, n, group.index, group.zero);
  }
  const bool turned = group.zero == 7;
  put(block, narrowing.scale<Half>(turned ? -group.scale : group.scale, n, group.index));
  put_nibbles(w, n, k, turned ? -1 : 1, turned ? 15 : 0, block + 2);
}

/// w = d * u + m.
void encode_q4_1(const AffineWeights& w, int64_t n, int64_t k, Narrowing& narrowing, std::byte* block) {
  const Group group = group_at(w, n, k);
  put(block, narrowing.scale<Half>(group.scale, n, group.index));
  put(block + 2, narrowing.to<Half>(-group.scale * group.zero, "offset", n, "group", group.index));
  put_nibbles(w, n, k, 1, 0, block + 4);
}

/// w = d * q, q an int8.
void encode_q8_0(const AffineWeights& w, int64_t n, int64_t k, Narrowing& narrowing, std::byte* block) {
  const Group group = group_at(w, n, k);
  put(block, narrowing.scale<Half>(group.scale, n, group.index));
  for (int64_t i = 0; i < kBlock; ++i)
    block[2 + i] = static_cast<std::byte>(code_at(w, n, k + i) - group.zero);
}

/// Eight numbers as one float16 times integers of 6 bits.
struct SixBits {
  Half unit;
  std::array<int, 8> integers;
};

/// Nothing where there is no such form; with `round`, its float16 is the nearest one.
std::optional<SixBits> six_bits(const std::array<double, 8>& values, Narrowing& narrowing, int64_t n,
                                int64_t group) {
  constexpr int64_t kMost = 63;
  constexpr int kMostDoublings = 5;  // the number with the lowest exponent is odd, and so is the divisor
  int exponent = std::numeric_limits<int>::max();
  for (double v : values) {
    if (v < 0) return {};
    if (v > 0) exponent = std::min(exponent, Dyadic(v).e);
  }
  SixBits out{};
  if (exponent == std::numeric_limits<int>::max()) return out;  // zeros
  std::array<int64_t, 8> multiples{};                           // of 2^exponent
  int64_t divisor = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const Dyadic v(values[i]);
    if (v.m == 0) continue;
    if (v.e - exponent > kMostDoublings) return {};
    multiples[i] = v.m << (v.e - exponent);
    divisor = std::gcd(divisor, multiples[i]);
  }
  int64_t largest = 0;
  for (int64_t& multiple : multiples) largest = std::max(largest, multiple /= divisor);
  if (largest > kMost) return {};
  // A divisor of the unit may be a float16 where the unit is none.
  int64_t times = 1;
  const auto unit = [&](int64_t t) {
    const int64_t part = divisor / t;
    return std::ldexp(static_cast<double>(part), exponent);
  };
  for (int64_t t = 1; t * largest <= kMost; ++t) {
    if (divisor % t != 0 || !exactly<Half>(unit(t))) continue;
    times = t;
    break;
  }
  out.unit = narrowing.scale<Half>(unit(times), n, group);
  for (size_t i = 0; i < multiples.size(); ++i) out.integers[i] = static_cast<int>(multiples[i] * times);
  return out;
}

/// Scales and offsets of the eight groups of 32 of a block: 6 bits each in 12 bytes.
void put_six_bits(const std::array<int, 8>& scales, const std::array<int, 8>& offsets, std::byte* to) {
  for (size_t g = 0; g < 4; ++g) {
    to[g] = static_cast<std::byte>(scales[g] | scales[g + 4] >> 4 << 6);
    to[g + 4] = static_cast<std::byte>(offsets[g] | offsets[g + 4] >> 4 << 6);
    to[g + 8] = static_cast<std::byte>((scales[g + 4] & 15) | (offsets[g + 4] & 15) << 4);
  }
}

/// w = d * scale[g] * u - dmin * offset[g].
void encode_q4_k(const AffineWeights& w, int64_t n, int64_t k, Narrowing& narrowing, std::byte* block) {
  std::array<double, 8> scales, offsets;
  for (int64_t g = 0; g < 8; ++g) {
    const Group group = group_at(w, n, k + g * kBlock);
    scales[static_cast<size_t>(g)] = group.scale;
    offsets[static_cast<size_t>(g)] = group.scale * group.zero;
  }
  const int64_t index = k / w.group_size();
  const auto d = six_bits(scales, narrowing, n, index), dmin = six_bits(offsets, narrowing, n, index);
  if (!d || !dmin) {
    throw Error(
        "{}: the scales of output {} from group {} on are no integers of 6 bits times one number, as Q4_K "
        "wants them; --to gptq_v2 holds others",
        w.where, n, index);
  }
  put(block, d->unit);
  put(block + 2, dmin->unit);
  put_six_bits(d->integers, dmin->integers, block + 4);
  for (int64_t g = 0; g < 8; ++g) {
    for (int64_t i = 0; i < kBlock; ++i) {  // groups 2c and 2c + 1 share bytes 32c to 32c + 31
      block[16 + g / 2 * kBlock + i] |=
          static_cast<std::byte>(code_at(w, n, k + g * kBlock + i) << g % 2 * 4);
    }
  }
}

/// In the order in which they are tried: by size.
constexpr BlockType kBlockTypes[] = {{"Q4_0", "q4_0", kBlock, 18, 4, encode_q4_0},
                                     {"Q4_K", "q4_k", kSuperBlock, 144, 4, encode_q4_k},
                                     {"Q4_1", "q4_1", kBlock, 20, 4, encode_q4_1},
                                     {"Q8_0", "q8_0", kBlock, 34, 8, encode_q8_0}};

WrittenLinear encode(const BlockType& type, const AffineWeights& w, bool round) {
  if (w.bits > type.bits)
    throw Error("{}: {} holds codes of 4 bits; --to gguf:q8_0 holds 8", w.where, type.name);
  expect_multiple(w, "inputs", w.k, type.elements);
  expect_multiple(w, "inputs of a group", w.group_size(), kBlock);
  const int64_t blocks = w.k / type.elements;
  Tensor rows(DType::kU8, {w.n, blocks * type.bytes});
  Narrowing narrowing(w.where, round);
  for_each_output(w, narrowing, [&](int64_t n, Narrowing& own) {
    for (int64_t b = 0; b < blocks; ++b)
      type.encode(w, n, b * type.elements, own, rows.data() + (n * blocks + b) * type.bytes);
  });
  WrittenLinear out{.scheme = type.name, .form = type.name, .rounding = narrowing.rounding()};
  out.tensors.emplace_back("weight", std::move(rows));
  return out;
}

/// The smallest type that holds the weights: without rounding, if there is one.
WrittenLinear encode_smallest(const AffineWeights& w, bool may_round) {
  std::optional<Error> last;
  for (bool round : {false, true}) {
    if (round && !may_round) break;
    for (const BlockType& type : kBlockTypes) {
      try {
        return encode(type, w, round);
      } catch (const Error& e) {
        last = e;
      }
    }
  }
  throw *last;
}

}  // namespace

WrittenLinear write_gguf(const QuantizedLinear& linear, const std::string& where,
                         const WriteOptions& options) {
  for (const auto& [variant, type] : {std::pair("f16", "F16"), {"bf16", "BF16"}, {"f32", "F32"}}) {
    if (options.variant != variant) continue;
    WrittenLinear out = write_floats(linear, where, options);
    out.scheme = out.form = type;
    return out;
  }
  const AffineWeights w = to_affine_weights(linear, where);
  expect_ordered_inputs(w, "gguf");
  for (const BlockType& type : kBlockTypes) {
    if (options.variant == type.variant) return encode(type, w, options.round);
  }
  return encode_smallest(w, options.round);
}

}  // namespace tessera::foreign
