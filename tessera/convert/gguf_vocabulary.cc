// Tokens and what stands around them.
#include "tessera/convert/gguf_vocabulary.h"

#include "tessera/base/error.h"
#include "tessera/format/model_config.h"
#include "tessera/source/gguf_pre_tokenizers.h"
#include "tessera/source/sentencepiece_reader.h"
#include "tessera/text/tokenizer.h"
#include "tessera/text/tokenizer_config.h"

namespace tessera {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// Tokens and their types by their ids.
class TokenTable {
 public:
  TokenTable(int64_t size, std::string where) : tokens_(static_cast<size_t>(size)), where_(std::move(where)) {
    for (size_t id = 0; id < tokens_.size(); ++id)
      tokens_[id] = {.text = fmt::format("[PAD{}]", id), .type = PieceType::kUnused};
  }

  void set(int64_t id, SentencePiece token) {
    if (id < 0 || id >= std::ssize(tokens_))
      throw Error("{}: token {} is beyond the {} rows of the embedding", where_, id, tokens_.size());
    tokens_[static_cast<size_t>(id)] = std::move(token);
  }
  /// A token that is found in a text before anything else happens to it.
  void add(const AddedToken& token) {
    set(token.id, {.text = token.content,
                   .score = kAddedScore,
                   .type = token.special ? PieceType::kControl : PieceType::kUserDefined});
  }
  /// Those that the files beside the tokenizer name, where their ids are free.
  void add_free(const ModelFiles& files) {
    for (const AddedToken& token : read_tokenizer_config(files).added_tokens) {
      const bool taken = token.id == AddedToken::kNextId ||
                         (token.id < std::ssize(tokens_) &&
                          tokens_[static_cast<size_t>(token.id)].type != PieceType::kUnused);
      if (!taken) add(token);
    }
  }

  ordered_json column(ordered_json (*of)(const SentencePiece&)) const {
    ordered_json values = ordered_json::array();
    for (const SentencePiece& token : tokens_) values.push_back(of(token));
    return values;
  }

 private:
  static constexpr float kAddedScore = -1000;  // nothing merges into them

  std::vector<SentencePiece> tokens_;
  std::string where_;
};

void set_tokens(const TokenTable& table, ordered_json& keys) {
  keys["tokenizer.ggml.tokens"] = table.column([](const SentencePiece& t) -> ordered_json { return t.text; });
  keys["tokenizer.ggml.token_type"] =
      table.column([](const SentencePiece& t) -> ordered_json { return static_cast<int32_t>(t.type); });
}

/// "a b" of both spellings.
std::string merge_text(const JsonNode& merge) {
  if (merge.is_string()) return merge.string();
  const auto pair = merge.get<std::vector<std::string>>();
  if (pair.size() != 2) merge.fail("{} is no pair", merge.shown());
  return pair[0] + " " + pair[1];
}

/// Byte-level BPE out of tokenizer.json.
ordered_json byte_level(const ModelFiles& files, int64_t vocab_size) {
  const json document = files.json("tokenizer.json");
  const JsonNode root(document, files.where("tokenizer.json")), model = root["model"];
  const GgufPreTokenizer* pre = find_gguf_pre_tokenizer(document);
  if (!pre) {
    root.fail(
        "llama.cpp has no name for this pre-tokenizer that tessera knows; a folder with tokenizer.model "
        "or the tokenizer of a known model converts");
  }
  TokenTable table(vocab_size, root.where());
  for (const auto& [text, id] : model["vocab"].members())
    table.set(id.get<int64_t>(), {.text = text, .type = PieceType::kNormal});
  for (const JsonNode& node : root["added_tokens"].items()) {
    AddedToken token = parse_added_token(node);
    token.id = node["id"].get<int32_t>();
    table.add(token);
  }
  table.add_free(files);
  ordered_json keys = {{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", pre->name}};
  set_tokens(table, keys);
  ordered_json& merges = keys["tokenizer.ggml.merges"] = ordered_json::array();
  for (const JsonNode& merge : model["merges"].items()) merges.push_back(merge_text(merge));
  return keys;
}

/// SentencePiece out of tokenizer.model, and what tokenizer_config.json adds.
ordered_json sentencepiece(const ModelFiles& files, int64_t vocab_size) {
  const SentencePieceVocabulary vocabulary =
      read_sentencepiece(files.read("tokenizer.model"), files.where("tokenizer.model"));
  TokenTable table(vocab_size, files.where("tokenizer.model"));
  for (size_t id = 0; id < vocabulary.pieces.size(); ++id)
    table.set(static_cast<int64_t>(id), vocabulary.pieces[id]);
  table.add_free(files);
  ordered_json keys = {{"tokenizer.ggml.model", "llama"}, {"tokenizer.ggml.pre", "default"}};
  set_tokens(table, keys);
  keys["tokenizer.ggml.scores"] =
      table.column([](const SentencePiece& t) -> ordered_json { return t.score; });
  keys["tokenizer.ggml.add_space_prefix"] = vocabulary.add_space_prefix;
  return keys;
}

/// Ids that begin and end texts, and whether the tokenizer adds them.
void set_special_tokens(const Tokenizer& tokenizer, const ModelConfig& config, ordered_json& keys) {
  const auto set = [&](const char* name, std::optional<int32_t> id) {
    if (id) keys[fmt::format("tokenizer.ggml.{}_token_id", name)] = static_cast<uint32_t>(*id);
  };
  const std::vector<int32_t>& ends = config.eos_token_ids();
  const auto end = [&](size_t i) { return i < ends.size() ? std::optional(ends[i]) : std::nullopt; };
  set("bos", tokenizer.bos_id());
  set("eos", ends.empty() ? tokenizer.eos_id() : end(0));
  set("eot", end(1));
  set("eom", end(2));
  const std::vector<int32_t> empty = tokenizer.encode("", true);
  const auto adds = [&](std::optional<int32_t> id) {
    return id && std::ranges::find(empty, *id) != empty.end();
  };
  keys["tokenizer.ggml.add_bos_token"] = adds(tokenizer.bos_id());
  keys["tokenizer.ggml.add_eos_token"] = adds(tokenizer.eos_id());
}

void set_chat_template(const ModelFiles& files, ordered_json& keys) {
  constexpr const char* kKey = "tokenizer.chat_template";
  if (files.contains("chat_template.jinja")) {
    keys[kKey] = files.read("chat_template.jinja");
  } else if (files.contains("tokenizer_config.json")) {
    const json document = files.json("tokenizer_config.json");
    const JsonNode chat = JsonNode(document, files.where("tokenizer_config.json"))["chat_template"];
    if (chat.is_string()) keys[kKey] = chat.string();
  }
}

}  // namespace

ordered_json gguf_vocabulary(const ModelFiles& files, const std::filesystem::path& model,
                             int64_t vocab_size) {
  if (!files.contains("tokenizer.model") && !files.contains("tokenizer.json"))
    throw Error("{}: neither there nor tokenizer.model; a GGUF file needs the tokenizer",
                files.where("tokenizer.json"));
  ordered_json keys =
      files.contains("tokenizer.model") ? sentencepiece(files, vocab_size) : byte_level(files, vocab_size);
  set_special_tokens(*Tokenizer::load(model), ModelConfig::load(model), keys);
  set_chat_template(files, keys);
  return keys;
}

}  // namespace tessera
