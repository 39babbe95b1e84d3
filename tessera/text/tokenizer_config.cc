// TokenizerConfig.
#include "tessera/text/tokenizer_config.h"

#include <charconv>

namespace tessera {
namespace {

/// A special token is written as its text or as an object with "content".
std::optional<std::string> token_text(const JsonNode& node) {
  if (node.is_null()) return std::nullopt;
  return node.is_string() ? node.string() : node["content"].string();
}

int32_t parse_id(const std::string& text, const JsonNode& node) {
  int32_t id = -1;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, id);
  if (error != std::errc() || end != last || id < 0 || id >= kMaxVocabSize)
    node.fail("'{}' is not a token id", text);
  return id;
}

void read_config(const JsonNode& root, TokenizerConfig& config) {
  config.bos_token = token_text(root["bos_token"]);
  config.eos_token = token_text(root["eos_token"]);
  config.add_bos_token = root["add_bos_token"].get_or(config.add_bos_token);
  config.add_eos_token = root["add_eos_token"].get_or(config.add_eos_token);
  config.legacy = root["legacy"].get_or(config.legacy);
  const JsonNode added = root["added_tokens_decoder"];
  if (added.is_null()) return;
  for (const auto& [id, value] : added.object()) {
    config.added_tokens.push_back(parse_added_token(added[id]));
    config.added_tokens.back().id = parse_id(id, added);
  }
}

}  // namespace

TokenizerConfig read_tokenizer_config(const ModelFiles& files) {
  constexpr const char *kConfig = "tokenizer_config.json", *kSpecialTokens = "special_tokens_map.json";
  TokenizerConfig config;
  if (files.contains(kConfig)) {
    const nlohmann::json document = files.json(kConfig);
    read_config({document, files.where(kConfig)}, config);
  }
  if (files.contains(kSpecialTokens)) {
    const nlohmann::json document = files.json(kSpecialTokens);
    const JsonNode root(document, files.where(kSpecialTokens));
    if (!config.bos_token) config.bos_token = token_text(root["bos_token"]);
    if (!config.eos_token) config.eos_token = token_text(root["eos_token"]);
  }
  return config;
}

}  // namespace tessera
