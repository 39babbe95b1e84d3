// Names, order of rows, and decoding.
#include "tessera/source/gguf_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "tessera/base/dyadic.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/source/gguf_names.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr std::array kArchitectures = {"llama", "qwen2", "qwen3"};

/// Decodes a row of blocks; false when a value is not finite in T.
template <class T>
bool decode_row(const GgufFormat& format, std::span<const std::byte> row, std::span<T> out) {
  constexpr float kLargest = std::is_same_v<T, Half> ? 65504 : std::numeric_limits<float>::max();
  std::array<float, 256> values;
  bool fits = true;
  for (size_t b = 0; b < row.size() / format.bytes; ++b) {
    const auto n = static_cast<size_t>(format.elements);
    decode_blocks(format, row.subspan(b * format.bytes, format.bytes), std::span(values).first(n));
    for (size_t i = 0; i < n; ++i) {
      fits &= std::abs(values[i]) <= kLargest;
      out[b * n + i] = nearest<T>(values[i]);
    }
  }
  return fits;
}

}  // namespace

GgufModel::GgufModel(const fs::path& path, DType decoded) : decoded_(decoded) {
  files_.push_back(std::make_unique<GgufFile>(path));
  const JsonNode architecture = metadata()["general.architecture"];
  architecture_ = architecture.string();
  if (std::ranges::find(kArchitectures, architecture_) == kArchitectures.end()) {
    architecture.fail("'{}' is not supported in GGUF files (known: {})", architecture_,
                      fmt::join(kArchitectures, ", "));
  }
  open_others(path);
  for (const auto& file : files_) add_tensors(*file);
}

JsonNode GgufModel::parameter(std::string_view key) const {
  return metadata()[fmt::format("{}.{}", architecture_, key)];
}

void GgufModel::open_others(const fs::path& first) {
  const auto count = metadata()["split.count"].get_or<int>(1);
  if (count <= 1) return;
  const std::string name = first.filename().string(), end = fmt::format("-00001-of-{:05}.gguf", count);
  if (!name.ends_with(end)) {
    throw Error("{}: is one of {} files; give the first, which ends in {}", first.string(), count, end);
  }
  for (int i = 2; i <= count; ++i) {
    const fs::path other =
        first.parent_path() /
        fmt::format("{}-{:05}-of-{:05}.gguf", name.substr(0, name.size() - end.size()), i, count);
    if (!fs::exists(other)) throw Error("{}: missing; the model has {} files", other.string(), count);
    files_.push_back(std::make_unique<GgufFile>(other));
  }
}

void GgufModel::add_tensors(const GgufFile& file) {
  for (const auto& [gguf_name, tensor] : file.tensors()) {
    const std::string where = fmt::format("{}: tensor {}", file.path().string(), gguf_name);
    const std::string name = hugging_face_name(gguf_name);
    if (name.empty()) throw Error("{}: not part of a {} model that tessera knows", where, architecture_);
    const Source source{&tensor, interleaved_heads(gguf_name)};
    if (source.interleaved_heads != 0 && tensor.shape[0] % (2 * source.interleaved_heads) != 0)
      throw Error("{}: {} rows are no {} heads", where, tensor.shape[0], source.interleaved_heads);
    if (!sources_.emplace(name, source).second) throw Error("{}: is also in another file", where);
    infos_[name] = {tensor.format->plain.value_or(decoded_), tensor.shape};
  }
}

/// Converters of the architecture llama interleave the halves of every head of q and k, because its rotation
/// turns neighbours. Qwen's turns halves, as Hugging Face does.
int64_t GgufModel::interleaved_heads(const std::string& gguf_name) const {
  const std::string_view stem = GgufTensorName(gguf_name).stem;
  if (architecture_ != "llama" || (stem != "attn_q" && stem != "attn_k")) return 0;
  constexpr int64_t kMostHeads = 1 << 16;
  const auto heads = parameter("attention.head_count").integer<int64_t>(1, kMostHeads);
  const JsonNode kv_heads = parameter("attention.head_count_kv");
  return stem == "attn_q" || kv_heads.is_null() ? heads : kv_heads.integer<int64_t>(1, kMostHeads);
}

/// A vector is one row, unless its elements move.
int64_t GgufModel::Source::rows() const {
  return tensor->shape.size() == 1 && interleaved_heads == 0 ? 1 : tensor->shape[0];
}

std::span<const std::byte> GgufModel::Source::row(int64_t r) const {
  const size_t bytes = tensor->data.size() / static_cast<size_t>(rows());
  return tensor->data.subspan(static_cast<size_t>(stored_row(r, rows(), interleaved_heads)) * bytes, bytes);
}

TensorView GgufModel::read(std::string_view name) const {
  const Source& source = sources_.find(name)->second;
  const GgufTensor* const tensor = source.tensor;
  const GgufFormat& format = *tensor->format;
  const TensorInfo& info = infos_.find(name)->second;
  const auto address = reinterpret_cast<uintptr_t>(tensor->data.data());
  if (format.plain && source.interleaved_heads == 0 && address % size_of(info.dtype) == 0)
    return {info.dtype, info.shape, tensor->data.data()};

  const int64_t rows = source.rows(), width = info.size() / rows;
  if (width % format.elements != 0) {
    throw Error("{}: {}: a bias in {} is not supported", files_[0]->path().string(), name, format.name);
  }
  Tensor out(info.dtype, info.shape);
  const size_t out_bytes = out.bytes() / static_cast<size_t>(rows);
  std::atomic<bool> fits = true;
  parallel_for(rows, [&](int64_t r) {
    const std::span<const std::byte> from = source.row(r);
    std::byte* const to = out.data() + static_cast<size_t>(r) * out_bytes;
    const auto decode = [&]<class T>(T* row) {
      if (!decode_row<T>(format, from, {row, static_cast<size_t>(width)})) fits = false;
    };
    if (format.plain) {
      std::memcpy(to, from.data(), from.size());
    } else if (decoded_ == DType::kF16) {
      decode(reinterpret_cast<Half*>(to));
    } else {
      decode(reinterpret_cast<float*>(to));
    }
  });
  if (!fits) {
    throw Error("{}: {} holds a value that is not finite or beyond {}; the file is damaged",
                files_[0]->path().string(), name, tessera::name_of(decoded_));
  }
  tessera::release_pages(tensor->data);
  return share(std::move(out));
}

bool GgufModel::has_codes(std::string_view name) const {
  const auto found = sources_.find(name);
  if (found == sources_.end() || !name.starts_with(kHuggingFaceBlocks)) return false;
  const GgufTensor& tensor = *found->second.tensor;
  return tensor.format->name == std::string_view(kQ4_0Name) && tensor.shape.size() == 2;
}

bool GgufModel::any_codes() const {
  return std::ranges::any_of(sources_, [&](const auto& named) { return has_codes(named.first); });
}

GgufCodes GgufModel::codes(std::string_view name) const {
  const Source& source = sources_.find(name)->second;
  GgufCodes out{.n = source.tensor->shape[0], .k = source.tensor->shape[1]};
  const int64_t groups = out.k / kQ4_0Group;
  out.codes.resize(static_cast<size_t>(out.n * out.k));
  out.scales.resize(static_cast<size_t>(out.n * groups));
  parallel_for(out.n, [&](int64_t r) {
    const auto part = [&](auto& values, int64_t width) {
      return std::span(values).subspan(static_cast<size_t>(r * width), static_cast<size_t>(width));
    };
    split_q4_0(source.row(r), part(out.codes, out.k), part(out.scales, groups));
  });
  tessera::release_pages(source.tensor->data);
  return out;
}

std::map<std::string, int64_t> GgufModel::stored_formats() const {
  std::map<std::string, int64_t> formats;
  for (const auto& [name, source] : sources_) ++formats[source.tensor->format->name];
  return formats;
}

std::vector<fs::path> GgufModel::files() const {
  std::vector<fs::path> paths;
  for (const auto& file : files_) paths.push_back(file->path());
  return paths;
}

void GgufModel::release_pages() const {
  for (const auto& file : files_) tessera::release_pages(file->bytes());
}

}  // namespace tessera
