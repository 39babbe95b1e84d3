// The compact protocol of Apache Thrift, in which Parquet files describe themselves.
//
// Source: thrift-compact-protocol.md of Apache Thrift.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

namespace tessera::parquet {

/// A value as it was read: fields keep their numbers, texts are views into what was read. The readers throw
/// Error when the value is absent or has another type.
class ThriftValue {
 public:
  using Fields = std::map<int, ThriftValue>;
  using List = std::vector<ThriftValue>;

  ThriftValue() = default;
  template <class T>
  explicit ThriftValue(T data) : data_(std::move(data)) {}

  /// The field of a struct; an absent value where there is none of this number.
  const ThriftValue& operator[](int field) const;
  bool is_absent() const { return std::holds_alternative<std::monostate>(data_); }

  bool boolean_or(bool fallback) const;
  /// An integer of [low, high].
  int64_t integer(int64_t low, int64_t high) const;
  int64_t integer_or(int64_t fallback, int64_t low, int64_t high) const {
    return is_absent() ? fallback : integer(low, high);
  }
  std::string_view text() const;
  const List& list() const;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string_view, List, Fields> data_;
};

struct ThriftStruct {
  ThriftValue value;
  size_t bytes = 0;  ///< that it took
};

/// The struct at the beginning of `bytes`. Throws Error when it is cut short, nested more than 32 deep or
/// holds more values than bytes.
ThriftStruct read_thrift(std::span<const std::byte> bytes);

}  // namespace tessera::parquet
