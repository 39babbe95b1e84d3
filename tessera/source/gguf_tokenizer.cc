// Metadata to tokenizer files.
#include "tessera/source/gguf_tokenizer.h"

#include "tessera/base/error.h"
#include "tessera/source/gguf_pre_tokenizers.h"
#include "tessera/source/sentencepiece_writer.h"

namespace tessera {
namespace {

using nlohmann::json;

JsonNode member(const GgufModel& model, std::string_view key) {
  return model.metadata()[fmt::format("tokenizer.ggml.{}", key)];
}

/// "model", such as "gpt2"; empty without a tokenizer.
std::string kind_of(const GgufModel& model) {
  return member(model, "model").get_or<std::string>("");
}

/// Tokens with their types, in the order of their ids.
struct Tokens {
  explicit Tokens(const GgufModel& model) {
    text = member(model, "tokens").get<std::vector<std::string>>();
    const JsonNode types = member(model, "token_type");
    type.assign(text.size(), PieceType::kNormal);
    if (types.is_null()) return;
    const auto numbers = types.get<std::vector<int>>();
    if (numbers.size() != text.size()) types.fail("{} types of {} tokens", numbers.size(), text.size());
    for (size_t i = 0; i < numbers.size(); ++i) {
      if (numbers[i] < 1 || numbers[i] > 6) types.fail("[{}]: {} is no type of a token", i, numbers[i]);
      type[i] = static_cast<PieceType>(numbers[i]);
    }
  }

  std::vector<std::string> text;
  std::vector<PieceType> type;
};

/// The token whose id the metadata give as "NAME_token_id", or null.
json special_token(const GgufModel& model, const Tokens& tokens, const char* name) {
  const JsonNode id = member(model, fmt::format("{}_token_id", name));
  if (id.is_null()) return nullptr;
  if (tokens.text.empty()) id.fail("there are no tokens");
  return tokens.text[id.integer<size_t>(0, tokens.text.size() - 1)];
}

/// Tokens that are found in a text before anything else happens to it, by id. What the original file says of
/// blanks around them is not in GGUF.
std::vector<std::pair<size_t, json>> added_tokens(const Tokens& tokens) {
  std::vector<std::pair<size_t, json>> added;
  for (size_t id = 0; id < tokens.text.size(); ++id) {
    const PieceType type = tokens.type[id];
    if (type != PieceType::kControl && type != PieceType::kUserDefined) continue;
    added.emplace_back(id, json{{"content", tokens.text[id]},
                                {"single_word", false},
                                {"lstrip", false},
                                {"rstrip", false},
                                {"normalized", false},
                                {"special", type == PieceType::kControl}});
  }
  return added;
}

bool adds(const GgufModel& model, const char* name, bool fallback) {
  const JsonNode flag = member(model, fmt::format("add_{}_token", name));
  const bool wanted = flag.get_or(fallback);
  if (wanted && member(model, fmt::format("{}_token_id", name)).is_null())
    flag.fail("the token to add has no id; the file is damaged");
  return wanted;
}

JsonNode hugging_face_copy(const GgufModel& model) {
  return model.metadata()["tokenizer.huggingface.json"];
}

bool adds_bos(const GgufModel& model) {
  const bool silent = member(model, "add_bos_token").is_null() && hugging_face_copy(model).is_null();
  return adds(model, "bos",
              is_sentencepiece(model) || (silent && gguf_pre_tokenizer(member(model, "pre")).adds_bos));
}

/// Puts BOS and EOS around a text; null where neither is added.
json post_processor(const GgufModel& model, const Tokens& tokens) {
  json single = json::array(), special = json::object();
  const auto add = [&](const char* name) {
    const std::string token = special_token(model, tokens, name);
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    const auto id = member(model, fmt::format("{}_token_id", name)).get<int64_t>();
    special[token] = {{"id", token}, {"ids", {id}}, {"tokens", {token}}};
  };
  if (adds_bos(model)) add("bos");
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (adds(model, "eos", false)) add("eos");
  if (special.empty()) return nullptr;
  json pair = single;
  for (json item : single) {
    if (item.contains("Sequence")) item["Sequence"] = {{"id", "B"}, {"type_id", 1}};
    pair.push_back(item);
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

json vocabulary(const GgufModel& model, const Tokens& tokens) {
  json vocab = json::object();
  for (size_t id = 0; id < tokens.text.size(); ++id) {
    if (tokens.type[id] == PieceType::kUnused) continue;  // fills up a padded embedding
    if (!vocab.emplace(tokens.text[id], id).second)
      member(model, "tokens").fail("'{}' comes twice", tokens.text[id]);
  }
  return vocab;
}

/// A text, or a list where the metadata name more templates.
json chat_template(const GgufModel& model) {
  const JsonNode own = model.metadata()["tokenizer.chat_template"],
                 names = model.metadata()["tokenizer.chat_templates"];
  if (names.is_null()) return own.value();
  json templates = json::array();
  const auto add = [&](const std::string& name, const JsonNode& text) {
    templates.push_back({{"name", name}, {"template", text.string()}});
  };
  if (!own.is_null()) add("default", own);
  for (const auto& name : names.get<std::vector<std::string>>())
    add(name, model.metadata()["tokenizer.chat_template." + name]);
  return templates;
}

}  // namespace

bool is_sentencepiece(const GgufModel& model) {
  return kind_of(model) == "llama";
}

json gguf_tokenizer(const GgufModel& model) {
  const JsonNode original = hugging_face_copy(model);
  if (!original.is_null()) return parse_json(original.string(), original.where());
  if (kind_of(model) != "gpt2") {
    member(model, "model")
        .fail("tokenizers of kind '{}' are not supported (known: gpt2, llama)", kind_of(model));
  }
  const GgufPreTokenizer& pre = gguf_pre_tokenizer(member(model, "pre"));
  const Tokens tokens(model);
  json added = json::array();
  for (auto& [id, token] : added_tokens(tokens)) {
    token["id"] = id;
    added.push_back(std::move(token));
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", json::parse(pre.normalizer)},
          {"pre_tokenizer", json::parse(pre.pre_tokenizer)},
          {"post_processor", post_processor(model, tokens)},
          {"decoder",
           {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", pre.ignore_merges},
            {"vocab", vocabulary(model, tokens)},
            {"merges", member(model, "merges").get<std::vector<std::string>>()}}}};
}

std::string gguf_tokenizer_model(const GgufModel& model) {
  const Tokens tokens(model);
  const JsonNode scores = member(model, "scores");
  const auto values = scores.get<std::vector<float>>();
  if (values.size() != tokens.text.size())
    scores.fail("{} scores of {} tokens", values.size(), tokens.text.size());
  SentencePieceVocabulary vocabulary{.add_space_prefix = member(model, "add_space_prefix").get_or(true)};
  for (size_t id = 0; id < tokens.text.size(); ++id)
    vocabulary.pieces.push_back({tokens.text[id], values[id], tokens.type[id]});
  for (const auto& [name, id] :
       {std::pair("bos", &vocabulary.bos), {"eos", &vocabulary.eos}, {"padding", &vocabulary.padding}}) {
    const JsonNode node = member(model, fmt::format("{}_token_id", name));
    if (!node.is_null()) *id = node.integer<int32_t>(0, static_cast<int32_t>(tokens.text.size()) - 1);
  }
  return write_sentencepiece(vocabulary);
}

json gguf_tokenizer_config(const GgufModel& model) {
  const Tokens tokens(model);
  const bool sentencepiece = is_sentencepiece(model);
  json config = {{"tokenizer_class", sentencepiece ? "LlamaTokenizer" : "PreTrainedTokenizerFast"},
                 {"add_bos_token", adds_bos(model)},
                 {"add_eos_token", adds(model, "eos", false)},
                 {"add_prefix_space", sentencepiece && member(model, "add_space_prefix").get_or(true)},
                 {"clean_up_tokenization_spaces", false},
                 {"added_tokens_decoder", json::object()}};
  if (sentencepiece) config["legacy"] = true;
  for (const auto& [key, name] : {std::pair("bos_token", "bos"),
                                  {"eos_token", "eos"},
                                  {"unk_token", "unknown"},
                                  {"pad_token", "padding"}}) {
    const json token = special_token(model, tokens, name);
    if (!token.is_null()) config[key] = token;
  }
  for (auto& [id, token] : added_tokens(tokens))
    config["added_tokens_decoder"][std::to_string(id)] = std::move(token);
  const json chat = chat_template(model);
  if (!chat.is_null()) config["chat_template"] = chat;
  const JsonNode context = model.parameter("context_length");
  if (!context.is_null()) config["model_max_length"] = context.value();
  return config;
}

}  // namespace tessera
