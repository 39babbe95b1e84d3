// The byte alphabet, as two tables made once.
#include "tessera/text/byte_level.h"

#include <array>
#include <cstdint>

#include "tessera/text/unicode.h"

namespace tessera {
namespace {

constexpr size_t kAlphabetEnd = 0x100 + 68;  ///< one past the highest character

bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

struct Alphabet {
  std::array<std::string, 256> character;  ///< of each byte, in UTF-8
  std::array<int16_t, kAlphabetEnd> byte;  ///< of each code point; -1 where it is no member

  Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
      const char32_t c = stands_for_itself(b) ? b : next++;
      append_utf8(c, character[b]);
      byte[c] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char b : bytes) out += alphabet().character[static_cast<uint8_t>(b)];
  return out;
}

std::string alphabet_to_bytes(std::string_view token) {
  std::string out;
  out.reserve(token.size());
  for (size_t i = 0; i < token.size();) {
    const CodePoint c = decode_code_point(token.substr(i));
    const int byte = c.value < kAlphabetEnd ? alphabet().byte[c.value] : -1;
    if (byte < 0) return std::string(token);
    out += static_cast<char>(byte);
    i += c.length;
  }
  return out;
}

}  // namespace tessera
