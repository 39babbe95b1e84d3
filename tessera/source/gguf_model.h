// A model in GGUF files, seen as Hugging Face stores it.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/source/gguf_file.h"

namespace tessera {

/// Name of the tensor that scales the rotary frequencies of LLaMA 3, which keeps its name: Hugging Face has
/// none.
inline constexpr const char* kRopeFactors = "rope_freqs.weight";

/// A matrix whose codes are kept: weight [n, k] = scales[n, k / kQ4_0Group] * (codes[n, k] - 8).
struct GgufCodes {
  int64_t n = 0, k = 0;
  std::vector<uint8_t> codes = {};  ///< [N, K], 0 .. 15
  std::vector<Half> scales = {};    ///< [N, K / kQ4_0Group], of either sign, as the file has them
};

/// A GGUF model of the architecture llama, qwen2 or qwen3: tensors have the names, the order of rows and (for
/// quantized blocks: `decoded`) the types of a Hugging Face checkpoint.
class GgufModel {
 public:
  /// `path` is the file, or the first of several, NAME-00001-of-000NN.gguf. Throws Error, naming file and
  /// tensor, when a file is missing or malformed, the architecture or a tensor is not known, or a name comes
  /// twice. `decoded` is what blocks become: kF16, rounded, or kF32, which holds them exactly.
  explicit GgufModel(const std::filesystem::path& path, DType decoded = DType::kF16);

  /// Of the first file.
  JsonNode metadata() const { return files_[0]->metadata(); }
  const std::string& architecture() const { return architecture_; }
  /// The member "ARCHITECTURE.key" of the metadata.
  JsonNode parameter(std::string_view key) const;

  const std::map<std::string, TensorInfo, std::less<>>& tensors() const { return infos_; }
  /// The tensor `name`, which must be there. Plain floats whose rows stand in order are a view into the
  /// mapped file, valid as long as this object lives; everything else is a copy that the view owns. Blocks
  /// are decoded. Throws Error when a decoded value is not finite or beyond the type.
  TensorView read(std::string_view name) const;

  /// True for the matrices of blocks that are stored in Q4_0: our kernels multiply with their codes.
  bool has_codes(std::string_view name) const;
  /// Whether any tensor has codes.
  bool any_codes() const;
  /// The codes of `name`, which must have some; rows stand as in read().
  GgufCodes codes(std::string_view name) const;

  /// How many tensors the files hold in each format, such as "Q4_K".
  std::map<std::string, int64_t> stored_formats() const;
  std::vector<std::filesystem::path> files() const;
  /// Lets the system drop what is in memory of the mapped files.
  void release_pages() const;

 private:
  struct Source {
    const GgufTensor* tensor;
    /// The rows are those of so many heads whose halves are interleaved; 0: in order.
    int64_t interleaved_heads;

    int64_t rows() const;
    /// Row `r` in Hugging Face's order.
    std::span<const std::byte> row(int64_t r) const;
  };

  void open_others(const std::filesystem::path& first);
  void add_tensors(const GgufFile& file);
  int64_t interleaved_heads(const std::string& gguf_name) const;

  DType decoded_;
  std::vector<std::unique_ptr<GgufFile>> files_;
  std::string architecture_;
  std::map<std::string, Source, std::less<>> sources_;
  std::map<std::string, TensorInfo, std::less<>> infos_;
};

}  // namespace tessera
