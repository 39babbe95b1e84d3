// GGUF files for tests, sound and broken ones. Test code only.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tessera/base/atomic_output.h"
#include "tessera/base/tensor.h"

namespace tessera {

/// Puts a file together, key by key and tensor by tensor; nothing is checked.
class GgufBuilder {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;
  int64_t extra_keys = 0, extra_tensors = 0;  ///< that the header announces and the file lacks

  /// A string, bool, float, double, or integer of 16, 32 or 64 bits, or a vector of these.
  template <class T>
  GgufBuilder& set(std::string_view key, const T& value) {
    return set_raw(key, bytes_of(type_of(value)) + encode(value));
  }
  GgufBuilder& set(std::string_view key, const char* text) { return set(key, std::string(text)); }
  /// Type and value as they stand in the file.
  GgufBuilder& set_raw(std::string_view key, const std::string& typed_value) {
    keys_.push_back(encode(std::string(key)) + typed_value);
    return *this;
  }

  /// `shape` slowest first; `type` as in gguf_blocks.h. The data stand where the last tensor's end, at
  /// `offset` where that is not -1.
  GgufBuilder& add(const std::string& name, const Shape& shape, uint32_t type, std::string data,
                   int64_t offset = -1) {
    tensors_.push_back({name, shape, type, std::move(data), offset});
    return *this;
  }
  GgufBuilder& add_floats(const std::string& name, const Shape& shape, const std::vector<float>& values) {
    return add(name, shape, 0, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  /// All before the data.
  std::string header() const {
    std::string out = "GGUF" + bytes_of(version) +
                      bytes_of(static_cast<int64_t>(tensors_.size()) + extra_tensors) +
                      bytes_of(static_cast<int64_t>(keys_.size()) + extra_keys);
    for (const std::string& key : keys_) out += key;
    uint64_t offset = 0;
    for (const Stored& t : tensors_) {
      out += encode(t.name) + bytes_of(static_cast<uint32_t>(t.shape.size()));
      for (auto extent = t.shape.rbegin(); extent != t.shape.rend(); ++extent) out += bytes_of(*extent);
      out += bytes_of(t.type) + bytes_of(t.offset < 0 ? offset : static_cast<uint64_t>(t.offset));
      offset += padded(t.data.size());
    }
    return out;
  }
  std::string file() const {
    std::string out = header();
    out.resize(padded(out.size()));
    for (const Stored& t : tensors_) {
      const size_t start = out.size();
      out += t.data;
      out.resize(start + padded(t.data.size()));
    }
    return out;
  }
  void write(const std::filesystem::path& path) const { write_file(path, file()); }

  template <class T>
  static std::string bytes_of(T value) {
    std::string out(sizeof value, '\0');
    std::memcpy(out.data(), &value, sizeof value);
    return out;
  }

 private:
  struct Stored {
    std::string name;
    Shape shape;
    uint32_t type;
    std::string data;
    int64_t offset;
  };

  uint64_t padded(uint64_t n) const { return (n + alignment - 1) / alignment * alignment; }

  static uint32_t type_of(const std::string&) { return 8; }
  template <class T>
  static uint32_t type_of(const T&) {
    if constexpr (std::is_same_v<T, bool>) return 7;
    if constexpr (std::is_same_v<T, float>) return 6;
    if constexpr (std::is_same_v<T, double>) return 12;
    if constexpr (sizeof(T) == 2) return std::is_signed_v<T> ? 3 : 2;
    if constexpr (sizeof(T) == 4) return std::is_signed_v<T> ? 5 : 4;
    return std::is_signed_v<T> ? 11 : 10;
  }
  template <class T>
  static uint32_t type_of(const std::vector<T>&) {
    return 9;
  }

  static std::string encode(const std::string& text) { return bytes_of(uint64_t{text.size()}) + text; }
  template <class T>
  static std::string encode(const T& value) {
    return bytes_of(value);
  }
  template <class T>
  static std::string encode(const std::vector<T>& values) {
    std::string out = bytes_of(type_of(T())) + bytes_of(uint64_t{values.size()});
    for (const T& value : values) out += encode(value);
    return out;
  }

  std::vector<std::string> keys_;
  std::vector<Stored> tensors_;
};

}  // namespace tessera
