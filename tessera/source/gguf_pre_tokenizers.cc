// Each entry is what tokenizer.json of the named model holds.
#include "tessera/source/gguf_pre_tokenizers.h"

namespace tessera {
namespace {

constexpr const char* kGpt2 =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";

constexpr const char* kSingleDigits = R"({"type": "Sequence", "pretokenizers": [
  {"type": "Digits", "individual_digits": true},
  {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]})";

constexpr const char* kLlama3 = R"({"type": "Sequence", "pretokenizers": [
  {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
   "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
  {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})";

constexpr const char* kQwen2 = R"({"type": "Sequence", "pretokenizers": [
  {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
   "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
  {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]})";

constexpr const char* kTekken = R"({"type": "Sequence", "pretokenizers": [
  {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
   "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
  {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})";

constexpr const char* kDeepseekCoder = R"({"type": "Sequence", "pretokenizers": [
  {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": "[\r\n]"}},
  {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": "\\s?\\p{L}+"}},
  {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": "\\s?\\p{P}+"}},
  {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"}},
  {"type": "Digits", "individual_digits": true},
  {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})";

constexpr const char* kFalcon = R"({"type": "Sequence", "pretokenizers": [
  {"type": "Punctuation", "behavior": "Contiguous"},
  {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  {"type": "Digits", "individual_digits": false},
  {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": "[0-9][0-9][0-9]"}}]})";

constexpr const char* kBloom = R"({"type": "Sequence", "pretokenizers": [
  {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
   " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"}},
  {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})";

constexpr GgufPreTokenizer kPreTokenizers[] = {
    {.name = "gpt-2", .pre_tokenizer = kGpt2},
    {.name = "smollm", .pre_tokenizer = kSingleDigits},
    {.name = "starcoder", .pre_tokenizer = kSingleDigits},
    {.name = "llama-bpe", .pre_tokenizer = kLlama3, .ignore_merges = true, .adds_bos = true},
    {.name = "llama3", .pre_tokenizer = kLlama3, .ignore_merges = true, .adds_bos = true},
    {.name = "llama-v3", .pre_tokenizer = kLlama3, .ignore_merges = true, .adds_bos = true},
    {.name = "qwen2", .pre_tokenizer = kQwen2, .normalizer = R"({"type": "NFC"})"},
    {.name = "tekken", .pre_tokenizer = kTekken, .ignore_merges = true, .adds_bos = true},
    {.name = "deepseek-coder", .pre_tokenizer = kDeepseekCoder},
    {.name = "falcon", .pre_tokenizer = kFalcon},
    {.name = "bloom", .pre_tokenizer = kBloom}};

/// Without what says nothing about ids.
nlohmann::json essence(nlohmann::json component) {
  if (component.is_structured()) {
    if (component.is_object()) component.erase("trim_offsets");
    for (nlohmann::json& member : component) member = essence(member);
  }
  return component;
}

}  // namespace

const GgufPreTokenizer* find_gguf_pre_tokenizer(const nlohmann::json& tokenizer) {
  const auto member = [&](const char* key) { return essence(tokenizer.value(key, nlohmann::json())); };
  const auto model = tokenizer.value("model", nlohmann::json::object());
  for (const GgufPreTokenizer& entry : kPreTokenizers) {
    if (member("pre_tokenizer") == essence(nlohmann::json::parse(entry.pre_tokenizer)) &&
        member("normalizer") == nlohmann::json::parse(entry.normalizer) &&
        model.value("ignore_merges", false) == entry.ignore_merges)
      return &entry;
  }
  return nullptr;
}

const GgufPreTokenizer& gguf_pre_tokenizer(const JsonNode& name) {
  std::string known;
  for (const GgufPreTokenizer& entry : kPreTokenizers) {
    if (!name.is_null() && name.string() == entry.name) return entry;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  name.fail("{} is no pre-tokenizer that tessera knows ({}); use the original Hugging Face folder",
            name.is_null() ? "nothing" : "'" + name.string() + "'", known);
}

}  // namespace tessera
