// Block decoders. Layouts: ggml's block_q4_0 and its relatives.
#include "tessera/source/gguf_blocks.h"

#include <fmt/format.h>

#include <array>
#include <cassert>
#include <cstring>

namespace tessera {
namespace {

constexpr int kSmallBlock = 32;
constexpr int kSuperBlock = 256;  // of the K formats: 8 or 16 groups with integer scales

uint8_t byte_at(const std::byte* p, int i) {
  return std::to_integer<uint8_t>(p[i]);
}
float half_at(const std::byte* p) {
  Half h;
  std::memcpy(&h.bits, p, sizeof h.bits);
  return to_float(h);
}
float int8_at(const std::byte* p, int i) {
  return static_cast<float>(static_cast<int8_t>(byte_at(p, i)));
}

/// Element `i` of 32 nibbles: the low halves of 16 bytes, then the high ones.
int nibble(const std::byte* p, int i) {
  return i < 16 ? byte_at(p, i) & 15 : byte_at(p, i - 16) >> 4;
}
int bit(const std::byte* p, int i) {
  return byte_at(p, i / 8) >> (i % 8) & 1;
}

/// d; 32 int8.
void decode_q8_0(const std::byte* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < kSmallBlock; ++i) out[i] = d * int8_at(block + 2, i);
}

/// d; 32 nibbles minus 8.
void decode_q4_0(const std::byte* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < kSmallBlock; ++i) out[i] = d * static_cast<float>(nibble(block + 2, i) - 8);
}

/// d, m; 32 nibbles.
void decode_q4_1(const std::byte* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  for (int i = 0; i < kSmallBlock; ++i) out[i] = d * static_cast<float>(nibble(block + 4, i)) + m;
}

/// d; 32 fifth bits; 32 nibbles; minus 16.
void decode_q5_0(const std::byte* block, float* out) {
  const float d = half_at(block);
  for (int i = 0; i < kSmallBlock; ++i)
    out[i] = d * static_cast<float>((nibble(block + 6, i) | bit(block + 2, i) << 4) - 16);
}

/// d, m; 32 fifth bits; 32 nibbles.
void decode_q5_1(const std::byte* block, float* out) {
  const float d = half_at(block), m = half_at(block + 2);
  for (int i = 0; i < kSmallBlock; ++i)
    out[i] = d * static_cast<float>(nibble(block + 8, i) | bit(block + 4, i) << 4) + m;
}

/// Scale and minimum of group `g` of 8: 6 bits each, in 12 bytes. Groups 0 to 3 fill the low 6 bits of bytes
/// 0 to 3 and 4 to 7; of groups 4 to 7 the low 4 bits lie in bytes 8 to 11, the upper 2 above those of groups
/// 0 to 3.
struct ScaleAndMin {
  int scale, min;
};
ScaleAndMin scale_and_min(const std::byte* p, int g) {
  if (g < 4) return {byte_at(p, g) & 63, byte_at(p, g + 4) & 63};
  const int low = byte_at(p, g + 4);
  return {(low & 15) | byte_at(p, g - 4) >> 6 << 4, low >> 4 | byte_at(p, g) >> 6 << 4};
}

/// Q4_K and Q5_K: d, dmin; 12 bytes of scales; code(group, i) of 8 groups of 32.
template <class Code>
void decode_groups_of_32(const std::byte* block, float* out, Code code) {
  const float d = half_at(block), dmin = half_at(block + 2);
  for (int g = 0; g < 8; ++g) {
    const auto [scale, min] = scale_and_min(block + 4, g);
    const float step = d * static_cast<float>(scale), offset = dmin * static_cast<float>(min);
    for (int i = 0; i < 32; ++i) out[32 * g + i] = step * static_cast<float>(code(g, i)) - offset;
  }
}

/// Code `i` of group `g`: groups 2c and 2c + 1 are the low and high nibbles of bytes 32c to 32c + 31.
int paired_nibble(const std::byte* p, int g, int i) {
  return byte_at(p, 32 * (g / 2) + i) >> (g % 2 * 4) & 15;
}

void decode_q4_k(const std::byte* block, float* out) {
  decode_groups_of_32(block, out, [&](int g, int i) { return paired_nibble(block + 16, g, i); });
}

/// The fifth bit of group g is bit g of 32 bytes.
void decode_q5_k(const std::byte* block, float* out) {
  decode_groups_of_32(block, out, [&](int g, int i) {
    return paired_nibble(block + 48, g, i) | (byte_at(block + 16, i) >> g & 1) << 4;
  });
}

/// 128 bytes of low nibbles, 64 of upper bit pairs, 16 int8 scales of groups of 16, d; minus 32. Each half of
/// 128 values is four quarters of 32: quarter q has the low (q < 2) or high nibbles of 64 bytes, and bit pair
/// q of 32 bytes.
void decode_q6_k(const std::byte* block, float* out) {
  const std::byte *low = block, *high = block + 128, *scales = block + 192;
  const float d = half_at(block + 208);
  for (int i = 0; i < kSuperBlock; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, place = i % 32;
    const int nibbles = byte_at(low, 64 * half + 32 * (quarter % 2) + place) >> (quarter / 2 * 4) & 15;
    const int pair = byte_at(high, 32 * half + place) >> (2 * quarter) & 3;
    out[i] = d * int8_at(scales, i / 16) * static_cast<float>((nibbles | pair << 4) - 32);
  }
}

constexpr GgufFormat kFormats[] = {
    {0, "F32", 1, 4, DType::kF32, nullptr},           {1, "F16", 1, 2, DType::kF16, nullptr},
    {30, "BF16", 1, 2, DType::kBF16, nullptr},        {8, "Q8_0", kSmallBlock, 34, {}, decode_q8_0},
    {2, kQ4_0Name, kSmallBlock, 18, {}, decode_q4_0}, {3, "Q4_1", kSmallBlock, 20, {}, decode_q4_1},
    {6, "Q5_0", kSmallBlock, 22, {}, decode_q5_0},    {7, "Q5_1", kSmallBlock, 24, {}, decode_q5_1},
    {12, "Q4_K", kSuperBlock, 144, {}, decode_q4_k},  {13, "Q5_K", kSuperBlock, 176, {}, decode_q5_k},
    {14, "Q6_K", kSuperBlock, 210, {}, decode_q6_k}};

/// Types that exist but are not read.
constexpr struct {
  uint32_t id;
  const char* name;
} kOtherTypes[] = {{9, "Q8_1"},    {10, "Q2_K"},    {11, "Q3_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"},
                   {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
                   {22, "IQ2_S"},  {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {26, "I32"},
                   {27, "I64"},    {28, "F64"},     {29, "IQ1_M"}, {34, "TQ1_0"},  {35, "TQ2_0"},
                   {39, "MXFP4"}};

}  // namespace

const GgufFormat* gguf_format(uint32_t id) {
  for (const GgufFormat& format : kFormats) {
    if (format.id == id) return &format;
  }
  return nullptr;
}

std::string gguf_type_name(uint32_t id) {
  if (const GgufFormat* format = gguf_format(id)) return format->name;
  for (const auto& [other, name] : kOtherTypes) {
    if (other == id) return name;
  }
  return fmt::format("type {}", id);
}

std::string known_gguf_formats() {
  std::string list;
  for (const GgufFormat& format : kFormats) list += (list.empty() ? "" : ", ") + std::string(format.name);
  return list;
}

void split_q4_0(std::span<const std::byte> blocks, std::span<uint8_t> codes, std::span<Half> scales) {
  const std::byte* block = blocks.data();
  for (size_t b = 0; b < scales.size(); ++b, block += sizeof(Half) + kQ4_0Group / 2) {
    std::memcpy(&scales[b].bits, block, sizeof scales[b].bits);
    for (int i = 0; i < kQ4_0Group; ++i)
      codes[b * kQ4_0Group + static_cast<size_t>(i)] = static_cast<uint8_t>(nibble(block + sizeof(Half), i));
  }
}

void decode_blocks(const GgufFormat& format, std::span<const std::byte> blocks, std::span<float> out) {
  assert(format.decode && blocks.size() % format.bytes == 0);
  float* to = out.data();
  for (size_t at = 0; at < blocks.size(); at += static_cast<size_t>(format.bytes), to += format.elements)
    format.decode(&blocks[at], to);
}

}  // namespace tessera
