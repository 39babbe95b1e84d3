// Bytes of a file, taken one after another. No read goes beyond them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "tessera/base/error.h"

namespace tessera {

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  /// What has not been taken.
  std::span<const std::byte> rest() const { return rest_; }

  /// The next `count` bytes. Throws Error when there are fewer.
  std::span<const std::byte> take(uint64_t count) {
    if (count > rest_.size()) throw Error("it is cut short");
    const auto front = rest_.first(count);
    rest_ = rest_.subspan(count);
    return front;
  }

  /// A number in little-endian order. Throws as take().
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  /// Seven bits a byte, the lowest first (LEB128; Protocol Buffers, Thrift, Parquet). Throws Error, too, when
  /// it has more than 64 bits.
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = number<uint8_t>();
      value |= uint64_t{byte & 127u} << shift;
      if (byte < 128) return value;
    }
    throw Error("it holds a number of more than 64 bits");
  }

 private:
  std::span<const std::byte> rest_;
};

}  // namespace tessera
