// Parsing of untrusted GGUF headers.
#include "tessera/source/gguf_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {

static_assert(std::endian::native == std::endian::little, "GGUF data is little-endian");

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::string_view kMagic = "GGUF";
constexpr uint64_t kMaxStringBytes = 16'000'000;
constexpr uint64_t kMaxNameBytes = 65'535;  // of keys and tensors
constexpr uint64_t kMaxTensors = 65'536;
constexpr uint64_t kMaxValues = uint64_t{1} << 22;  // of metadata: 16 times the largest vocabularies
constexpr uint64_t kMaxAlignment = 4096;
constexpr uint32_t kMaxDimensions = 4;
constexpr int64_t kMaxExtent = int64_t{1} << 40;

enum class ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

/// Reads the header front to back. Throws Error where the file ends too early.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }

  std::string string(uint64_t longest) {
    const auto length = number<uint64_t>();
    if (length > longest) throw Error("{}: a string of {} bytes at byte {} is too long", file_, length, at_);
    return {reinterpret_cast<const char*>(take(length)), length};
  }

  uint64_t position() const { return at_; }
  const std::string& file() const { return file_; }

 private:
  const std::byte* take(uint64_t count) {
    if (count > bytes_.size() - at_)
      throw Error("{}: ends in the middle of its header, at byte {}; is the download complete?", file_,
                  bytes_.size());
    const std::byte* const place = bytes_.data() + at_;
    at_ += count;
    return place;
  }

  std::span<const std::byte> bytes_;
  std::string file_;
  uint64_t at_ = 0;
};

json read_scalar(Cursor& in, ValueType type, const std::string& where) {
  switch (type) {
    case ValueType::kU8:
      return in.number<uint8_t>();
    case ValueType::kI8:
      return in.number<int8_t>();
    case ValueType::kU16:
      return in.number<uint16_t>();
    case ValueType::kI16:
      return in.number<int16_t>();
    case ValueType::kU32:
      return in.number<uint32_t>();
    case ValueType::kI32:
      return in.number<int32_t>();
    case ValueType::kF32:
      return in.number<float>();
    case ValueType::kBool:
      return in.number<uint8_t>() != 0;
    case ValueType::kString:
      return in.string(kMaxStringBytes);
    case ValueType::kU64:
      return in.number<uint64_t>();
    case ValueType::kI64:
      return in.number<int64_t>();
    case ValueType::kF64:
      return in.number<double>();
    case ValueType::kArray:
      throw Error("{}: an array of arrays is not supported", where);
  }
  throw Error("{}: unknown type of value {}; is the file damaged?", where, static_cast<uint32_t>(type));
}

class MetadataReader {
 public:
  explicit MetadataReader(Cursor& in) : in_(in) {}

  json read(uint64_t keys) {
    json metadata = json::object();
    for (uint64_t i = 0; i < keys; ++i) {
      std::string key = in_.string(kMaxNameBytes);
      json value = read_value(fmt::format("{}: {}", in_.file(), key));
      if (!metadata.emplace(key, std::move(value)).second)
        throw Error("{}: the key {} comes twice", in_.file(), key);
    }
    return metadata;
  }

 private:
  json read_value(const std::string& where) {
    const auto type = in_.number<ValueType>();
    if (type != ValueType::kArray) return count(1, where), read_scalar(in_, type, where);
    const auto element = in_.number<ValueType>();
    const auto length = in_.number<uint64_t>();
    count(length, where);
    json array = json::array();
    for (uint64_t i = 0; i < length; ++i) array.push_back(read_scalar(in_, element, where));
    return array;
  }

  /// Values take more memory than their bytes in the file.
  void count(uint64_t more, const std::string& where) {
    if (more > kMaxValues - values_) throw Error("{}: more than {} values of metadata", where, kMaxValues);
    values_ += more;
  }

  Cursor& in_;
  uint64_t values_ = 0;
};

/// A tensor as its header describes it.
struct Entry {
  std::string name;
  GgufTensor tensor;
  uint64_t offset = 0, bytes = 0;  ///< in the data section
};

/// Bytes of a tensor. Extents are limited so that a product with one more of them fits 128 bits.
uint64_t byte_count(const GgufFormat& format, const Shape& shape, const std::string& where) {
  if (shape.back() % format.elements != 0) {
    throw Error("{}: rows of {} are no whole blocks of {} ({} values)", where, shape.back(), format.name,
                format.elements);
  }
  auto bytes = static_cast<uint64_t>(format.bytes);
  for (size_t i = 0; i < shape.size(); ++i) {
    const bool row = i + 1 == shape.size();
    const auto extent = static_cast<uint64_t>(row ? shape[i] / format.elements : shape[i]);
    if (__builtin_mul_overflow(bytes, extent, &bytes))
      throw Error("{}: shape {} is too large", where, to_string(shape));
  }
  return bytes;
}

Entry read_entry(Cursor& in, uint64_t alignment) {
  Entry entry;
  entry.name = in.string(kMaxNameBytes);
  const std::string where = fmt::format("{}: tensor {}", in.file(), entry.name);
  const auto dimensions = in.number<uint32_t>();
  if (dimensions == 0 || dimensions > kMaxDimensions)
    throw Error("{}: {} dimensions; 1 to {} are possible", where, dimensions, kMaxDimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto extent = in.number<int64_t>();
    if (extent < 1 || extent > kMaxExtent) throw Error("{}: an extent of {} is impossible", where, extent);
    entry.tensor.shape.insert(entry.tensor.shape.begin(), extent);
  }
  const auto type = in.number<uint32_t>();
  entry.tensor.format = gguf_format(type);
  if (!entry.tensor.format) {
    throw Error("{}: tensors of {} are not read (known: {}); quantize the model to one of these", where,
                gguf_type_name(type), known_gguf_formats());
  }
  entry.bytes = byte_count(*entry.tensor.format, entry.tensor.shape, where);
  entry.offset = in.number<uint64_t>();
  if (entry.offset % alignment != 0)
    throw Error("{}: its offset {} is no multiple of the alignment {}", where, entry.offset, alignment);
  return entry;
}

uint64_t read_alignment(const JsonNode& metadata) {
  const JsonNode node = metadata["general.alignment"];
  const auto alignment = node.is_null() ? uint64_t{32} : node.integer<uint64_t>(1, kMaxAlignment);
  if (!std::has_single_bit(alignment)) node.fail("{} is no power of two", alignment);
  return alignment;
}

void check_places(std::vector<Entry>& entries, uint64_t data_bytes, const std::string& file) {
  for (const Entry& entry : entries) {
    if (entry.offset > data_bytes || entry.bytes > data_bytes - entry.offset) {
      throw Error(
          "{}: tensor {}: {} bytes at {} lie outside the file ({} bytes of data); is the download complete?",
          file, entry.name, entry.bytes, entry.offset, data_bytes);
    }
  }
  std::ranges::sort(entries, {}, &Entry::offset);
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].offset - entries[i - 1].offset < entries[i - 1].bytes)
      throw Error("{}: tensors {} and {} overlap", file, entries[i - 1].name, entries[i].name);
  }
}

}  // namespace

GgufFile::GgufFile(const fs::path& path) : file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  Cursor in(bytes, path.string());
  char magic[kMagic.size()];
  for (char& c : magic) c = in.number<char>();
  if (std::string_view(magic, sizeof magic) != kMagic) throw Error("{}: not a GGUF file", in.file());
  const auto version = in.number<uint32_t>();
  if (version != 2 && version != 3) {
    throw Error("{}: GGUF version {} is not read (2 and 3 are); convert the model again", in.file(), version);
  }
  const auto tensors = in.number<uint64_t>(), keys = in.number<uint64_t>();
  if (tensors > kMaxTensors) throw Error("{}: {} tensors are more than {}", in.file(), tensors, kMaxTensors);
  metadata_ = MetadataReader(in).read(keys);
  const uint64_t alignment = read_alignment(metadata());
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < tensors; ++i) entries.push_back(read_entry(in, alignment));
  const uint64_t start = std::min((in.position() + alignment - 1) / alignment * alignment, bytes.size());
  check_places(entries, bytes.size() - start, in.file());
  for (Entry& entry : entries) {
    entry.tensor.data = bytes.subspan(start + entry.offset, entry.bytes);
    if (!tensors_.emplace(entry.name, std::move(entry.tensor)).second)
      throw Error("{}: tensor {} comes twice", in.file(), entry.name);
  }
}

bool is_gguf(const fs::path& path) {
  if (!fs::is_regular_file(path)) return false;
  char magic[kMagic.size()] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == kMagic;
}

}  // namespace tessera
