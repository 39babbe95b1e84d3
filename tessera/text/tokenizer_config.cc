// TokenizerConfig.
#include "tessera/text/tokenizer_config.h"

#include <charconv>

namespace tessera {
namespace {

namespace fs = std::filesystem;

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

void read_config(const fs::path& path, TokenizerConfig& config) {
  const nlohmann::json document = read_json(path);
  const JsonNode root(document, path.string());
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

TokenizerConfig read_tokenizer_config(const fs::path& model_dir) {
  TokenizerConfig config;
  if (const fs::path path = model_dir / "tokenizer_config.json"; fs::exists(path)) read_config(path, config);
  if (const fs::path path = model_dir / "special_tokens_map.json"; fs::exists(path)) {
    const nlohmann::json document = read_json(path);
    const JsonNode root(document, path.string());
    if (!config.bos_token) config.bos_token = token_text(root["bos_token"]);
    if (!config.eos_token) config.eos_token = token_text(root["eos_token"]);
  }
  return config;
}

}  // namespace tessera
