// Reading values of Thrift's compact protocol.
#include "tessera/tasks/parquet/thrift.h"

#include "tessera/base/byte_reader.h"

namespace tessera::parquet {
namespace {

constexpr int kMaxDepth = 32;

/// Types as the protocol numbers them.
enum Type : uint8_t {
  kStop,
  kTrue,
  kFalse,
  kByte,
  kI16,
  kI32,
  kI64,
  kDouble,
  kBinary,
  kList,
  kSet,
  kMap,
  kStruct
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> rest() const { return bytes_.rest(); }

  ThriftValue structure(int depth) {
    if (depth > kMaxDepth) throw Error("metadata nested more than {} deep", kMaxDepth);
    ThriftValue::Fields fields;
    int id = 0;
    for (;;) {
      const auto header = bytes_.number<uint8_t>();
      const auto type = static_cast<Type>(header & 15);
      if (type == kStop) break;
      id = header >> 4 ? id + (header >> 4) : static_cast<int>(zigzag() & 0x7fff);
      // A boolean field is its own type.
      fields.insert_or_assign(
          id, type == kTrue || type == kFalse ? ThriftValue(type == kTrue) : value(type, depth));
    }
    return ThriftValue(std::move(fields));
  }

 private:
  int64_t zigzag() {
    const uint64_t value = bytes_.varint();
    return static_cast<int64_t>(value >> 1 ^ (0 - (value & 1)));
  }

  std::string_view binary() {
    const auto text = bytes_.take(bytes_.varint());
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

  ThriftValue list(int depth) {
    const auto header = bytes_.number<uint8_t>();
    const uint64_t count = header >> 4 == 15 ? bytes_.varint() : header >> 4;
    // Every element takes a byte at least.
    if (count > bytes_.rest().size()) throw Error("metadata holds a list that is cut short");
    ThriftValue::List items;
    for (uint64_t i = 0; i < count; ++i) {
      const auto type = static_cast<Type>(header & 15);
      items.push_back(type == kTrue || type == kFalse ? ThriftValue(bytes_.number<uint8_t>() == 1)
                                                      : value(type, depth));
    }
    return ThriftValue(std::move(items));
  }

  ThriftValue value(Type type, int depth) {
    if (depth > kMaxDepth) throw Error("metadata nested more than {} deep", kMaxDepth);
    switch (type) {
      case kByte:
        return ThriftValue(int64_t{bytes_.number<int8_t>()});
      case kI16:
      case kI32:
      case kI64:
        return ThriftValue(zigzag());
      case kDouble:
        return ThriftValue(bytes_.number<double>());
      case kBinary:
        return ThriftValue(binary());
      case kList:
      case kSet:
        return list(depth + 1);
      case kStruct:
        return structure(depth + 1);
      default:
        throw Error("metadata holds a value of type {}, which Parquet does not use", static_cast<int>(type));
    }
  }

  ByteReader bytes_;
};

}  // namespace

const ThriftValue& ThriftValue::operator[](int field) const {
  static const ThriftValue absent;
  const auto* fields = std::get_if<Fields>(&data_);
  if (!fields) return absent;
  const auto found = fields->find(field);
  return found == fields->end() ? absent : found->second;
}

bool ThriftValue::boolean_or(bool fallback) const {
  const auto* value = std::get_if<bool>(&data_);
  return value ? *value : fallback;
}

int64_t ThriftValue::integer(int64_t low, int64_t high) const {
  const auto* value = std::get_if<int64_t>(&data_);
  if (!value) throw Error("metadata lacks a number");
  if (*value < low || *value > high)
    throw Error("metadata holds {} where {} .. {} is possible", *value, low, high);
  return *value;
}

std::string_view ThriftValue::text() const {
  const auto* value = std::get_if<std::string_view>(&data_);
  if (!value) throw Error("metadata lacks a text");
  return *value;
}

const ThriftValue::List& ThriftValue::list() const {
  const auto* value = std::get_if<List>(&data_);
  if (!value) throw Error("metadata lacks a list");
  return *value;
}

ThriftStruct read_thrift(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  ThriftValue value = reader.structure(0);
  return {std::move(value), bytes.size() - reader.rest().size()};
}

}  // namespace tessera::parquet
