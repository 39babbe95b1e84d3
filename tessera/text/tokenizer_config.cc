// TokenizerConfig.
#include "tessera/text/tokenizer_config.h"

#include <charconv>
#include <map>

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
  std::map<int32_t, AddedToken> by_id;
  for (const auto& [id, value] : added.object()) {
    AddedToken token = parse_added_token(added[id]);
    token.id = parse_id(id, added);
    by_id[token.id] = token;
  }
  for (auto& [id, token] : by_id) config.added_tokens.push_back(std::move(token));
}

/// added_tokens.json, which tokenizers in Python write: from contents to ids.
void read_added_tokens(const JsonNode& root, TokenizerConfig& config) {
  for (const auto& [content, id] : root.members()) {
    AddedToken& token = config.added_tokens.emplace_back();
    token.content = content;
    token.id = id.integer<int32_t>(0, kMaxVocabSize - 1);
  }
}

/// The tokens that keys such as "pad_token" name.
void read_special_tokens(const JsonNode& root, TokenizerConfig& config) {
  const auto add = [&](const JsonNode& node) {
    const std::optional<std::string> text = token_text(node);
    if (!text || text->empty()) return;
    AddedToken token = node.is_string() ? AddedToken() : parse_added_token(node);
    token.content = *text;
    token.special = true;
    if (node.is_string()) token.normalized = false;
    config.added_tokens.push_back(std::move(token));
  };
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    add(root[key]);
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const JsonNode more = root[key];
    if (more.is_array()) {
      for (const JsonNode& node : more.items()) add(node);
    } else if (!more.is_null()) {
      for (const auto& [name, node] : more.members()) add(node);
    }
  }
}

}  // namespace

TokenizerConfig read_tokenizer_config(const ModelFiles& files) {
  constexpr const char *kConfig = "tokenizer_config.json", *kAdded = "added_tokens.json",
                       *kSpecialTokens = "special_tokens_map.json";
  TokenizerConfig config;
  const auto read = [&](const char* file, const auto& reader) {
    if (!files.contains(file)) return;
    const nlohmann::json document = files.json(file);
    reader(JsonNode(document, files.where(file)), config);
  };
  read(kConfig, read_config);
  read(kAdded, read_added_tokens);
  read(kConfig, read_special_tokens);
  read(kSpecialTokens, [](const JsonNode& root, TokenizerConfig& c) {
    if (!c.bos_token) c.bos_token = token_text(root["bos_token"]);
    if (!c.eos_token) c.eos_token = token_text(root["eos_token"]);
    read_special_tokens(root, c);
  });
  return config;
}

}  // namespace tessera
