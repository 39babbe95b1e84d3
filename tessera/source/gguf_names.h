// What tensors are called in GGUF files and by Hugging Face, and the order of their rows.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tessera {

/// "blk.3.attn_q.weight" in its parts; "output.weight" has no block.
struct GgufTensorName {
  std::string_view block, stem, kind;

  explicit GgufTensorName(std::string_view name) {
    const size_t last = name.rfind('.');
    kind = last == name.npos ? "" : name.substr(last + 1);
    stem = name.substr(0, last);
    if (!stem.starts_with("blk.")) return;
    const size_t end = stem.find('.', 4);
    if (end == stem.npos) return;
    block = stem.substr(4, end - 4);
    stem = stem.substr(end + 1);
  }
};

/// What Hugging Face's names of tensors of blocks begin with.
inline constexpr std::string_view kHuggingFaceBlocks = "model.layers.";

/// The Hugging Face name of a tensor of the architectures llama, qwen2 and qwen3; empty when there is none.
std::string hugging_face_name(const std::string& gguf_name);
/// The inverse.
std::string gguf_name(const std::string& hugging_face_name);

/// The stored row that row `r` of Hugging Face's order is. Interleaved, row 2i + j of a head of d rows is its
/// row i + j d/2 there; 0 heads: nothing moves.
int64_t stored_row(int64_t r, int64_t rows, int64_t heads);

}  // namespace tessera
