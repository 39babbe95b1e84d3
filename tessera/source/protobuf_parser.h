// Reading messages of Protocol Buffers without their schema.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "tessera/base/byte_reader.h"

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
  ProtobufParser(std::string_view bytes, const std::string& file)
      : bytes_(std::as_bytes(std::span(bytes))), file_(file) {}

  /// Calls `body` with every field.
  void fields(const std::function<void(const ProtobufField&)>& body) {
    while (!bytes_.rest().empty()) body(next());
  }

  [[noreturn]] void fail() const { throw Error("{}: is no SentencePiece model, or is damaged", file_); }

 private:
  ProtobufField next() try {
    const uint64_t key = bytes_.varint();
    ProtobufField field{.number = key >> 3};
    switch (key & 7) {
      case 0:
        field.value = bytes_.varint();
        break;
      case 1:
        field.value = bytes_.number<uint64_t>();
        break;
      case 2: {
        const auto taken = bytes_.take(bytes_.varint());
        field.bytes = {reinterpret_cast<const char*>(taken.data()), taken.size()};
        break;
      }
      case 5:
        field.value = bytes_.number<uint32_t>();
        break;
      default:
        fail();
    }
    return field;
  } catch (const Error&) {
    fail();
  }

  ByteReader bytes_;
  const std::string& file_;
};

}  // namespace tessera
