// A LLaMA in a GGUF file, small and complete. Test code only.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "tessera/source/test_gguf.h"

namespace tessera {

/// Hidden size 32, 4 heads of 8 channels over 2 key-value heads, MLP of 64, one block, 12 tokens; normal
/// random weights. `matrix_type`: of the block's linears, 0 (F32), 2
/// or 8 (Q4_0 or Q8_0, random blocks, scales of both signs).
struct TestGgufLlama {
  static constexpr int64_t kHidden = 32, kHeads = 4, kKvHeads = 2, kHeadDim = 8, kMlp = 64, kVocab = 12;

  GgufBuilder file;

  explicit TestGgufLlama(const std::string& architecture = "llama", uint32_t matrix_type = 0)
      : type_(matrix_type) {
    const auto key = [&](const char* name) { return architecture + "." + name; };
    file.set("general.architecture", architecture)
        .set(key("context_length"), uint32_t{64})
        .set(key("embedding_length"), static_cast<uint32_t>(kHidden))
        .set(key("block_count"), uint32_t{1})
        .set(key("feed_forward_length"), static_cast<uint32_t>(kMlp))
        .set(key("attention.head_count"), static_cast<uint32_t>(kHeads))
        .set(key("attention.head_count_kv"), static_cast<uint32_t>(kKvHeads))
        .set(key("attention.layer_norm_rms_epsilon"), 1e-5f);
    floats("token_embd.weight", {kVocab, kHidden});
    floats("output_norm.weight", {kHidden});
    floats("blk.0.attn_norm.weight", {kHidden});
    floats("blk.0.ffn_norm.weight", {kHidden});
    matrix("blk.0.attn_q.weight", kHidden, kHidden);
    matrix("blk.0.attn_k.weight", kKvHeads * kHeadDim, kHidden);
    matrix("blk.0.attn_v.weight", kKvHeads * kHeadDim, kHidden);
    matrix("blk.0.attn_output.weight", kHidden, kHidden);
    matrix("blk.0.ffn_gate.weight", kMlp, kHidden);
    matrix("blk.0.ffn_up.weight", kMlp, kHidden);
    matrix("blk.0.ffn_down.weight", kHidden, kMlp);
  }

  void floats(const std::string& name, const Shape& shape) {
    std::vector<float> values(static_cast<size_t>(element_count(shape)));
    for (float& v : values) v = normal_(random_);
    file.add_floats(name, shape, values);
  }

 private:
  void matrix(const std::string& name, int64_t n, int64_t k) {
    if (type_ == 0) return floats(name, {n, k});
    std::string blocks;
    const int code_bytes = type_ == 2 ? 16 : 32;
    for (int64_t i = 0; i < n * k / 32; ++i) {
      blocks += GgufBuilder::bytes_of(to_half(0.01f * normal_(random_)).bits);
      for (int j = 0; j < code_bytes; ++j) blocks += static_cast<char>(random_());
    }
    file.add(name, {n, k}, type_, blocks);
  }

  uint32_t type_;
  std::mt19937 random_{1};
  std::normal_distribution<float> normal_;
};

}  // namespace tessera
