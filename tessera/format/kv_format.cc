// Scalar definitions of the quantized key-value cache.
#include "tessera/format/kv_format.h"

#include <cassert>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/format/reference.h"

namespace tessera {

std::string_view name_of(KvFormat format) {
  switch (format) {
    case KvFormat::kF32:
      return "f32";
    case KvFormat::kF16:
      return "f16";
    case KvFormat::kInt8:
      return "int8";
    case KvFormat::kInt4:
      return "int4";
  }
  return "";
}

KvFormat kv_format_of_bits(int bits, std::string_view where) {
  for (KvFormat format : {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4}) {
    if (kv_bits(format) == bits) return format;
  }
  throw Error("{}: keys and values of {} bits do not exist; 32, 16, 8 and 4 do", where, bits);
}

KvScale quantize_kv(std::span<const float> x, KvFormat format, std::span<uint8_t> row) {
  assert(is_quantized(format) && x.size() % 2 == 0);
  const int bits = kv_bits(format), half = 1 << (bits - 1);
  std::vector<int8_t> codes(x.size());
  const TokenScale token = quantize_asymmetric(x, bits, codes);
  const auto u = [&](size_t i) { return static_cast<uint8_t>(codes[i] + half); };
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] = format == KvFormat::kInt8 ? u(i) : pack_nibbles(u(i), u(i + row.size()));
  }
  return {token.scale, static_cast<float>(token.zero_point + half)};
}

void dequantize_kv(std::span<const uint8_t> row, KvFormat format, KvScale scale, std::span<float> x) {
  for (size_t i = 0; i < x.size(); ++i) {
    const int u = format == KvFormat::kInt8 ? row[i]
                  : i < row.size()          ? row[i] & 15
                                            : row[i - row.size()] >> 4;
    x[i] = scale.scale * (static_cast<float>(u) - scale.zero);
  }
}

}  // namespace tessera
