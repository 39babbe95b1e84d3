// The tables of names.
#include "tessera/source/gguf_names.h"

#include <fmt/format.h>

#include "tessera/source/gguf_model.h"

namespace tessera {
namespace {

struct NamePair {
  std::string_view gguf, hugging_face;
};
constexpr NamePair kGlobalNames[] = {
    {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
constexpr NamePair kBlockNames[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"}};

/// The other member of the pair of `table` that has `name` as its `from`; empty where there is none.
template <size_t N>
std::string_view translate(const NamePair (&table)[N], std::string_view name,
                           std::string_view NamePair::*from, std::string_view NamePair::*to) {
  for (const NamePair& pair : table) {
    if (pair.*from == name) return pair.*to;
  }
  return {};
}

}  // namespace

std::string hugging_face_name(const std::string& gguf_name) {
  if (gguf_name == kRopeFactors) return gguf_name;
  const GgufTensorName name(gguf_name);
  if (name.kind != "weight" && name.kind != "bias") return {};
  const auto translated = [&](const auto& table) {
    return translate(table, name.stem, &NamePair::gguf, &NamePair::hugging_face);
  };
  const std::string_view stem = name.block.empty() ? translated(kGlobalNames) : translated(kBlockNames);
  if (stem.empty()) return {};
  if (name.block.empty()) return fmt::format("{}.{}", stem, name.kind);
  return fmt::format("{}{}.{}.{}", kHuggingFaceBlocks, name.block, stem, name.kind);
}

std::string gguf_name(const std::string& hugging_face_name) {
  const size_t last = hugging_face_name.rfind('.');
  if (last == std::string::npos) return {};
  const std::string kind = hugging_face_name.substr(last);
  std::string stem = hugging_face_name.substr(0, last), block;
  if (stem.starts_with(kHuggingFaceBlocks)) {
    const size_t begin = kHuggingFaceBlocks.size(), end = stem.find('.', begin);
    if (end == std::string::npos) return {};
    block = stem.substr(begin, end - begin);
    stem = stem.substr(end + 1);
  }
  const auto translated = [&](const auto& table) {
    return translate(table, stem, &NamePair::hugging_face, &NamePair::gguf);
  };
  const std::string_view name = block.empty() ? translated(kGlobalNames) : translated(kBlockNames);
  if (name.empty()) return {};
  return block.empty() ? fmt::format("{}{}", name, kind) : fmt::format("blk.{}.{}{}", block, name, kind);
}

int64_t stored_row(int64_t r, int64_t rows, int64_t heads) {
  if (heads == 0) return r;
  const int64_t head_rows = rows / heads, half = head_rows / 2, place = r % head_rows;
  return r - place + place % half * 2 + place / half;
}

}  // namespace tessera
