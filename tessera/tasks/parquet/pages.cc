// Pages to levels and values.
#include "tessera/tasks/parquet/pages.h"

#include <bit>
#include <cstring>

#include "tessera/base/byte_reader.h"
#include "tessera/tasks/parquet/compression.h"
#include "tessera/text/unicode.h"

namespace tessera::parquet {
namespace {

constexpr int64_t kMaxSlots = 50'000'000;
constexpr int64_t kMaxBytes = 1'000'000'000;

enum Type : int64_t {
  kBoolean = 0,
  kInt32 = 1,
  kInt64 = 2,
  kFloat = 4,
  kDouble = 5,
  kByteArray = 6,
  kTypes = 8
};
enum Encoding : int64_t { kPlain = 0, kPlainDictionary = 2, kRle = 3, kRleDictionary = 8 };
enum PageType : int64_t { kDataPage = 0, kDictionaryPage = 2, kDataPageV2 = 3 };

/// `count` numbers of `width` bits in the hybrid of runs and packed groups of eight.
std::vector<uint32_t> read_hybrid(ByteReader& bytes, int width, size_t count) {
  if (width > 32) throw Error("a page holds numbers of {} bits", width);
  std::vector<uint32_t> out;
  out.reserve(count);
  while (out.size() < count) {
    const uint64_t header = bytes.varint();
    if (header & 1) {
      const uint64_t groups = std::min<uint64_t>(header >> 1, (count - out.size() + 7) / 8);
      ByteReader packed(bytes.take(groups * static_cast<uint64_t>(width)));
      uint64_t buffer = 0;
      int bits = 0;
      for (uint64_t i = 0; i < groups * 8; ++i) {
        while (bits < width) {
          buffer |= uint64_t{packed.number<uint8_t>()} << bits;
          bits += 8;
        }
        if (out.size() < count) out.push_back(static_cast<uint32_t>(buffer & ((uint64_t{1} << width) - 1)));
        buffer >>= width;
        bits -= width;
      }
    } else {
      uint32_t value = 0;
      const auto stored = bytes.take(static_cast<size_t>(width + 7) / 8);
      std::memcpy(&value, stored.data(), stored.size());
      if (header >> 1 == 0) throw Error("a page holds an empty run");
      out.resize(std::min<uint64_t>(count, out.size() + std::min<uint64_t>(header >> 1, count)), value);
    }
  }
  return out;
}

std::vector<uint32_t> read_levels(ByteReader& bytes, int most, size_t count) {
  if (most == 0) return std::vector<uint32_t>(count, 0);
  std::vector<uint32_t> levels = read_hybrid(bytes, std::bit_width(static_cast<unsigned>(most)), count);
  for (uint32_t level : levels) {
    if (level > static_cast<uint32_t>(most))
      throw Error("a page holds a level of {}; at most {} is possible", level, most);
  }
  return levels;
}

class ColumnReader {
 public:
  ColumnReader(std::span<const std::byte> file, const ThriftValue& metadata, Levels most, ValueKind kind)
      : most_(most),
        kind_(kind),
        type_(metadata[1].integer(0, kTypes - 1)),
        codec_(metadata[4].integer(0, INT32_MAX)),
        slots_(metadata[5].integer(0, kMaxSlots)),
        bytes_(pages_of(file, metadata)) {}

  Column read() {
    while (std::ssize(column_.definition) < slots_) page();
    return std::move(column_);
  }

 private:
  static std::span<const std::byte> pages_of(std::span<const std::byte> file, const ThriftValue& metadata) {
    const auto size = static_cast<int64_t>(file.size());
    const int64_t data = metadata[9].integer(0, size);
    const int64_t dictionary = metadata[11].integer_or(0, 0, size);
    const int64_t begin = dictionary > 0 ? std::min(data, dictionary) : data;
    return file.subspan(static_cast<size_t>(begin),
                        static_cast<size_t>(metadata[7].integer(0, size - begin)));
  }

  void page() {
    const ThriftStruct header = read_thrift(bytes_.rest());
    bytes_.take(header.bytes);
    const ThriftValue& h = header.value;
    const auto size = static_cast<size_t>(h[2].integer(0, kMaxBytes));
    const auto stored = bytes_.take(static_cast<size_t>(h[3].integer(0, kMaxBytes)));
    spend(static_cast<int64_t>(size));
    switch (h[1].integer(0, INT32_MAX)) {
      case kDictionaryPage:
        return dictionary(h[7], decompress(codec_, stored, size));
      case kDataPage:
        return data(h[5], decompress(codec_, stored, size));
      case kDataPageV2:
        return data_v2(h[8], stored, size);
      default:
        return;  // an index, which readers may pass over
    }
  }

  void dictionary(const ThriftValue& header, const std::vector<std::byte>& content) {
    if (kind_ == ValueKind::kUnread) return;
    ByteReader bytes(content);
    dictionary_ = plain(bytes, static_cast<size_t>(header[1].integer(0, slots_)));
  }

  void data(const ThriftValue& header, const std::vector<std::byte>& content) {
    ByteReader bytes(content);
    const size_t count = slots_of(header);
    const auto levels = [&](int most) {
      ByteReader own(most > 0 ? bytes.take(bytes.number<uint32_t>()) : std::span<const std::byte>());
      return read_levels(own, most, count);
    };
    const std::vector<uint32_t> repetition = levels(most_.repetition);
    append(repetition, levels(most_.definition), header[2].integer(0, INT32_MAX), bytes);
  }

  void data_v2(const ThriftValue& header, std::span<const std::byte> stored, size_t size) {
    ByteReader bytes(stored);
    const size_t count = slots_of(header);
    ByteReader repetition(bytes.take(static_cast<size_t>(header[6].integer(0, kMaxBytes))));
    ByteReader definition(bytes.take(static_cast<size_t>(header[5].integer(0, kMaxBytes))));
    const size_t before = stored.size() - bytes.rest().size();
    if (before > size) throw Error("a page is damaged: its levels are longer than itself");
    const int64_t codec = header[7].boolean_or(true) ? codec_ : 0;
    const std::vector<std::byte> content = decompress(codec, bytes.rest(), size - before);
    ByteReader values(content);
    append(read_levels(repetition, most_.repetition, count), read_levels(definition, most_.definition, count),
           header[4].integer(0, INT32_MAX), values);
  }

  size_t slots_of(const ThriftValue& header) const {
    return static_cast<size_t>(header[1].integer(0, slots_ - std::ssize(column_.definition)));
  }

  void append(const std::vector<uint32_t>& repetition, const std::vector<uint32_t>& definition,
              int64_t encoding, ByteReader& bytes) {
    const auto defined = std::ranges::count(definition, static_cast<uint32_t>(most_.definition));
    for (Json& value : values(encoding, bytes, static_cast<size_t>(defined)))
      column_.values.push_back(std::move(value));
    column_.repetition.insert(column_.repetition.end(), repetition.begin(), repetition.end());
    column_.definition.insert(column_.definition.end(), definition.begin(), definition.end());
  }

  std::vector<Json> values(int64_t encoding, ByteReader& bytes, size_t count) {
    if (kind_ == ValueKind::kUnread) return std::vector<Json>(count);
    if (encoding == kPlain) return plain(bytes, count);
    if (encoding == kRle && type_ == kBoolean) {
      ByteReader own(bytes.take(bytes.number<uint32_t>()));
      std::vector<Json> out;
      for (uint32_t bit : read_hybrid(own, 1, count)) out.emplace_back(bit != 0);
      return out;
    }
    if (encoding != kPlainDictionary && encoding != kRleDictionary) {
      throw Error("encoding {} of Parquet is not read; write the file with the defaults of PyArrow",
                  encoding);
    }
    std::vector<Json> out;
    if (count == 0) return out;
    const int width = bytes.number<uint8_t>();
    for (uint32_t index : read_hybrid(bytes, width, count)) {
      if (index >= dictionary_.size())
        throw Error("a page names entry {} of a dictionary of {}", index, dictionary_.size());
      const Json& value = dictionary_[index];
      if (value.is_string()) spend(std::ssize(value.get_ref<const std::string&>()));
      out.push_back(value);
    }
    return out;
  }

  std::vector<Json> plain(ByteReader& bytes, size_t count) {
    std::vector<Json> out;
    if (type_ == kBoolean) {
      const auto bits = bytes.take((count + 7) / 8);
      for (size_t i = 0; i < count; ++i)
        out.emplace_back((std::to_integer<int>(bits[i / 8]) >> (i % 8) & 1) != 0);
      return out;
    }
    for (size_t i = 0; i < count; ++i) out.push_back(plain_value(bytes));
    return out;
  }

  Json plain_value(ByteReader& bytes) const {
    switch (type_) {
      case kInt32:
        return kind_ == ValueKind::kUnsigned ? Json(bytes.number<uint32_t>()) : Json(bytes.number<int32_t>());
      case kInt64:
        return kind_ == ValueKind::kUnsigned ? Json(bytes.number<uint64_t>()) : Json(bytes.number<int64_t>());
      case kFloat:
        return bytes.number<float>();
      case kDouble:
        return bytes.number<double>();
      case kByteArray: {
        const auto text = bytes.take(bytes.number<uint32_t>());
        return replace_invalid_utf8({reinterpret_cast<const char*>(text.data()), text.size()});
      }
      default:
        throw Error("values of type {} of Parquet are not read", type_);
    }
  }

  void spend(int64_t bytes) {
    spent_ += bytes;
    if (spent_ > kMaxBytes) throw Error("more than {} bytes in one column of a row group", kMaxBytes);
  }

  const Levels most_;
  const ValueKind kind_;
  const int64_t type_, codec_, slots_;
  ByteReader bytes_;
  std::vector<Json> dictionary_;
  Column column_;
  int64_t spent_ = 0;
};

}  // namespace

Column read_column(std::span<const std::byte> file, const ThriftValue& metadata, Levels most,
                   ValueKind kind) {
  return ColumnReader(file, metadata, most, kind).read();
}

}  // namespace tessera::parquet
