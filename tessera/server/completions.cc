// /v1/completions.
#include "tessera/server/completions.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr size_t kMaxPrompts = 1024;

/// A text, ids, texts, or lists of ids.
std::vector<std::vector<int32_t>> read_prompts(const JsonNode& node, const ServedModel& served,
                                               bool add_special, size_t hidden) {
  const auto from_text = [&](const JsonNode& text) {
    return served.tokenizer.encode(text.string(), add_special);
  };
  const auto from_ids = [&](const JsonNode& ids) {
    std::vector<int32_t> prompt(hidden, served.tokenizer.bos_id().value_or(0));
    for (const JsonNode& id : ids.items()) prompt.push_back(id.integer<int32_t>());
    if (prompt.size() == hidden) ids.fail("the prompt is empty; give at least one token");
    return prompt;
  };
  if (node.is_string()) return {from_text(node)};
  const std::vector<JsonNode> items = node.items();
  if (items.empty()) node.fail("the prompt is empty");
  if (items.front().value().is_number()) return {from_ids(node)};
  if (items.size() > kMaxPrompts) node.fail("{} prompts; at most {}", items.size(), kMaxPrompts);
  std::vector<std::vector<int32_t>> prompts;
  for (const JsonNode& item : items) prompts.push_back(item.is_string() ? from_text(item) : from_ids(item));
  return prompts;
}

bool holds_text(const JsonNode& prompt) {
  if (prompt.is_string()) return true;
  const std::vector<JsonNode> items = prompt.items();
  return !items.empty() && items.front().is_string();
}

class CompletionFormat : public ReplyFormat {
 public:
  explicit CompletionFormat(const ServedModel& served) : served_(served) {}

  const char* id_prefix() const override { return "cmpl-"; }
  const char* whole_object() const override { return "text_completion"; }
  const char* event_object() const override { return "text_completion"; }

  json choice(const ChoicePart& part) const override {
    return {{"index", part.index},
            {"text", part.text},
            {"logprobs", logprobs(part.tokens)},
            {"finish_reason", part.finish_reason.empty() ? json() : json(part.finish_reason)}};
  }
  std::vector<json> event_choices(const ChoicePart& part, bool) const override { return {choice(part)}; }

 private:
  json logprobs(const std::vector<ListedToken>& tokens) const {
    if (tokens.empty()) return nullptr;
    json names = json::array(), own = json::array(), top = json::array(), offsets = json::array();
    for (const ListedToken& token : tokens) {
      const std::string name = served_.tokens.name(token.id);
      names.push_back(name);
      offsets.push_back(token.text_offset);
      own.push_back(token.score ? json(shown_logprob(token.score->logprob)) : json());
      top.push_back(nullptr);
      if (!token.score) continue;
      // Where two ids have one name, the likelier one stays.
      json alternatives = json::object();
      for (const TokenLogprob& other : token.score->top) {
        alternatives.emplace(served_.tokens.name(other.id), shown_logprob(other.logprob));
      }
      alternatives.emplace(name, shown_logprob(token.score->logprob));
      top.back() = std::move(alternatives);
    }
    return {{"tokens", names}, {"token_logprobs", own}, {"top_logprobs", top}, {"text_offset", offsets}};
  }

  const ServedModel& served_;
};

}  // namespace

PromptRequest read_completion(const RequestBody& body, const ServedModel& served) {
  PromptRequest request{.generation = read_generation(body, served)};
  GenerationRequest& generation = request.generation;
  generation.echo = body.get_or("echo", false);
  generation.top_logprobs = body.read("logprobs", [](const JsonNode& node) {
    return node.is_null() ? std::optional<int64_t>() : node.integer<int64_t>(0, 20);
  });
  if (generation.max_tokens == 0 && !generation.echo) {
    throw ApiError::invalid("max_tokens",
                            "max_tokens is 0: nothing to answer; ask for at least one, or for echo");
  }
  // A scoring client counts its own tokens: nothing may come before them.
  const bool scores = generation.echo && generation.top_logprobs;
  const bool add_special = body.get_or("add_special_tokens", !scores);
  body.read("prompt", [&](const JsonNode& node) {
    if (node.is_null()) node.fail("is missing; give a text or a list of token ids");
    if (served.options.bos_before_ids && !holds_text(node)) request.hidden = 1;
    request.prompts = read_prompts(node, served, add_special, request.hidden);
    return 0;
  });
  for (const auto& prompt : request.prompts) check_prompt(prompt, served, "prompt");
  return request;
}

std::unique_ptr<ReplyFormat> completion_format(const ServedModel& served) {
  return std::make_unique<CompletionFormat>(served);
}

}  // namespace tessera
