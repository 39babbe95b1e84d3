// Parsing of untrusted safetensors headers, and the writer.
#include "tessera/format/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <map>
#include <optional>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/base/json_node.h"

namespace tessera {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct Extent {
  uint64_t begin, end;
  std::string name;
};

std::optional<DType> known_dtype(const std::string& name) {
  try {
    return dtype_from_name(name);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// Product of the extents times the element size, refusing overflow.
uint64_t byte_count(const Shape& shape, DType dtype, const std::string& where) {
  uint64_t n = size_of(dtype);
  for (int64_t extent : shape) {
    if (__builtin_mul_overflow(n, static_cast<uint64_t>(extent), &n)) {
      throw Error("{}: shape {} is too large", where, to_string(shape));
    }
  }
  return n;
}

/// Where an entry of the header has its data, checked against the size of the data section.
Extent parse_extent(const JsonNode& entry, const std::string& name, uint64_t data_bytes) {
  const std::vector<JsonNode> offsets = entry["data_offsets"].items();
  if (offsets.size() != 2) entry.fail("data_offsets has {} numbers, expected 2", offsets.size());
  const Extent extent{static_cast<uint64_t>(offsets[0].integer<int64_t>(0)),
                      static_cast<uint64_t>(offsets[1].integer<int64_t>(0)), name};
  if (extent.begin > extent.end || extent.end > data_bytes) {
    throw Error("{}: data [{}, {}) lies outside the file ({} bytes of data); is the download complete?",
                entry.where(), extent.begin, extent.end, data_bytes);
  }
  return extent;
}

/// The tensor that an entry describes, whose data are `data`.
TensorView parse_entry(const JsonNode& entry, DType dtype, std::span<const std::byte> data) {
  TensorView view{dtype, {}, data.data()};
  for (const JsonNode& dim : entry["shape"].items())
    view.shape.push_back(dim.integer<int64_t>(0, int64_t{1} << 48));
  const uint64_t bytes = byte_count(view.shape, dtype, entry.where());
  if (bytes != data.size()) {
    throw Error("{}: {} {} needs {} bytes, the header gives {}", entry.where(), name_of(dtype),
                to_string(view.shape), bytes, data.size());
  }
  return view;
}

void check_overlaps(std::vector<Extent>& extents, const std::string& file) {
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  for (size_t i = 1; i < extents.size(); ++i) {
    if (extents[i].begin < extents[i - 1].end) {
      throw Error("{}: tensors {} and {} overlap", file, extents[i - 1].name, extents[i].name);
    }
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  const std::string file = path.string();
  if (bytes.size() < 8) throw Error("{}: too short for a safetensors file; is the download complete?", file);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  if (header_bytes > kMaxJsonBytes || header_bytes > bytes.size() - 8) {
    throw Error("{}: header of {} bytes does not fit into the file of {} bytes; is the download complete?",
                file, header_bytes, bytes.size());
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes);
  const json header = parse_json(text, file + ": header");
  const std::span<const std::byte> data = bytes.subspan(8 + header_bytes);
  std::vector<Extent> extents;
  for (const auto& [name, entry] : JsonNode(header, file + ": header").object()) {
    if (name == "__metadata__") continue;
    const JsonNode node(entry, fmt::format("{}: tensor {}", file, name));
    const Extent extent = parse_extent(node, name, data.size());
    if (extent.end > extent.begin) extents.push_back(extent);
    const std::string& dtype = node["dtype"].string();
    if (const auto known = known_dtype(dtype)) {
      tensors_[name] = parse_entry(node, *known, data.subspan(extent.begin, extent.end - extent.begin));
    } else {
      unreadable_[name] = fmt::format("{}: dtype '{}' is not readable here", node.where(), dtype);
    }
  }
  check_overlaps(extents, file);
}

TensorView SafetensorsFile::at(std::string_view name) const {
  const TensorView& stored = tensors_.find(name)->second;
  const bool aligned = reinterpret_cast<uintptr_t>(stored.data) % size_of(stored.dtype) == 0;
  return aligned ? stored : share(Tensor(stored));
}

FileDigest write_safetensors(const fs::path& path, const std::vector<NamedTensor>& tensors) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& t : tensors) order.push_back(&t);
  std::ranges::stable_sort(order, std::greater(),
                           [](const NamedTensor* t) { return size_of(t->tensor.dtype); });
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  uint64_t offset = 0;
  for (const NamedTensor* t : order) {
    const uint64_t end = offset + t->tensor.bytes();
    header[t->name] = {
        {"dtype", name_of(t->tensor.dtype)}, {"shape", t->tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t header_bytes = text.size();
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&header_bytes, 1)));
  file.write(text);
  for (const NamedTensor* t : order) file.write({t->tensor.data, t->tensor.bytes()});
  return file.commit();
}

}  // namespace tessera
