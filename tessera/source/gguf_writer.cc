// The GGUF container: header, tensor table, padded data.
#include "tessera/source/gguf_writer.h"

#include <array>
#include <cassert>
#include <cstring>

namespace tessera {
namespace {

using nlohmann::ordered_json;

constexpr uint64_t kAlignment = 32;
enum class ValueType : uint32_t { kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9 };

/// Bytes under construction.
class Bytes {
 public:
  template <class T>
  void number(T value) {
    std::array<char, sizeof(T)> raw;
    std::memcpy(raw.data(), &value, sizeof value);
    text_.append(raw.data(), raw.size());
  }
  void string(const std::string& value) {
    number<uint64_t>(value.size());
    text_ += value;
  }
  void typed(const ordered_json& value) {
    number(type_of(value));
    plain(value);
  }
  const std::string& text() const { return text_; }

 private:
  static ValueType type_of(const ordered_json& value) {
    if (value.is_string()) return ValueType::kString;
    if (value.is_boolean()) return ValueType::kBool;
    if (value.is_array()) return ValueType::kArray;
    if (value.is_number_float()) return ValueType::kFloat32;
    return value.is_number_unsigned() ? ValueType::kUint32 : ValueType::kInt32;
  }

  void plain(const ordered_json& value) {
    switch (type_of(value)) {
      case ValueType::kString:
        return string(value.get_ref<const std::string&>());
      case ValueType::kBool:
        return number<uint8_t>(value.get<bool>());
      case ValueType::kUint32:
        return number(value.get<uint32_t>());
      case ValueType::kInt32:
        return number(value.get<int32_t>());
      case ValueType::kFloat32:
        return number(value.get<float>());
      case ValueType::kArray:
        number(value.empty() ? ValueType::kInt32 : type_of(value[0]));
        number<uint64_t>(value.size());
        for (const ordered_json& item : value) plain(item);
    }
  }

  std::string text_;
};

uint64_t padded(uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

GgufWriter::GgufWriter(const std::filesystem::path& path, const ordered_json& metadata,
                       const std::vector<GgufEntry>& tensors)
    : file_(path) {
  constexpr uint32_t kVersion = 3;
  Bytes header;
  header.number(std::array{'G', 'G', 'U', 'F'});
  header.number(kVersion);
  header.number<uint64_t>(tensors.size());
  header.number<uint64_t>(metadata.size());
  for (const auto& [key, value] : metadata.items()) {
    header.string(key);
    header.typed(value);
  }
  uint64_t offset = 0;
  for (const GgufEntry& tensor : tensors) {
    header.string(tensor.name);
    header.number(static_cast<uint32_t>(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) header.number(*extent);
    header.number(tensor.format->id);
    header.number(offset);
    offset += padded(tensor.bytes());
  }
  file_.write(header.text());
  written_ = header.text().size();
  pad();
}

void GgufWriter::add(std::span<const std::byte> data) {
  file_.write(data);
  written_ += data.size();
  pad();
}

void GgufWriter::pad() {
  static constexpr std::array<std::byte, kAlignment> kZeros{};
  const uint64_t missing = padded(written_) - written_;
  file_.write(std::span(kZeros).first(missing));
  written_ += missing;
}

}  // namespace tessera
