// How tensors are stored in GGUF files: as plain floats, or in blocks of quantized values along a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "tessera/base/dtype.h"

namespace tessera {

/// One storage type of GGUF.
struct GgufFormat {
  uint32_t id;       ///< its number in files
  const char* name;  ///< such as "Q4_K"
  int64_t elements;  ///< a block; 1 for plain floats
  int64_t bytes;     ///< a block
  /// Plain floats: their type.
  std::optional<DType> plain;
  /// Blocks: from `bytes` bytes to `elements` floats, with the float32 operations, in their order, of the
  /// `gguf` Python package, so that both give the same bits.
  void (*decode)(const std::byte* block, float* out);
};

/// F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K; null for any other number.
const GgufFormat* gguf_format(uint32_t id);

/// The name of a type, supported or not, such as "IQ4_XS"; "type 99" for an unknown number.
std::string gguf_type_name(uint32_t id);

/// All formats that are read, as a list for messages.
std::string known_gguf_formats();

/// Inputs that share a scale in Q4_0.
inline constexpr int64_t kQ4_0Group = 32;
inline constexpr const char* kQ4_0Name = "Q4_0";

/// Whole blocks of Q4_0 without loss: a weight is scale * (code - 8). Codes are 0 .. 15, kQ4_0Group for every
/// scale; scales are of either sign.
void split_q4_0(std::span<const std::byte> blocks, std::span<uint8_t> codes, std::span<Half> scales);

/// Decodes whole blocks.
void decode_blocks(const GgufFormat& format, std::span<const std::byte> blocks, std::span<float> out);

}  // namespace tessera
