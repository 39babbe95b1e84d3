// Reading messages of Protocol Buffers without their schema.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "tessera/base/error.h"

namespace tessera {

/// A field of a message of Protocol Buffers.
struct ProtobufField {
  uint64_t number = 0, value = 0;  ///< value: of varints and fixed numbers
  std::string_view bytes = {};     ///< of strings and messages
};

/// The fields of a serialized message, one after the other. Throws Error naming `file`, a SentencePiece
/// model, where the bytes are none. Both must outlive it.
class ProtobufParser {
 public:
  ProtobufParser(std::string_view rest, const std::string& file) : rest_(rest), file_(file) {}

  /// Calls `body` with every field.
  void fields(const std::function<void(const ProtobufField&)>& body) {
    while (!rest_.empty()) {
      const uint64_t key = varint();
      ProtobufField field{.number = key >> 3};
      switch (key & 7) {
        case 0:
          field.value = varint();
          break;
        case 1:
          field.value = fixed<uint64_t>();
          break;
        case 2:
          field.bytes = take(varint());
          break;
        case 5:
          field.value = fixed<uint32_t>();
          break;
        default:
          fail();
      }
      body(field);
    }
  }

  [[noreturn]] void fail() const { throw Error("{}: is no SentencePiece model, or is damaged", file_); }

 private:
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) fail();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  template <class T>
  T fixed() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= uint64_t{byte & 127u} << shift;
      if (byte < 128) return value;
    }
    fail();
  }

  std::string_view rest_;
  const std::string& file_;
};

}  // namespace tessera
