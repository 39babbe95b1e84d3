// /v1/chat/completions.
#include "tessera/server/chat_completions.h"

namespace tessera {
namespace {

using nlohmann::json;

class ChatFormat : public ReplyFormat {
 public:
  explicit ChatFormat(const ServedModel& served) : served_(served) {}

  const char* id_prefix() const override { return "chatcmpl-"; }
  const char* whole_object() const override { return "chat.completion"; }
  const char* event_object() const override { return "chat.completion.chunk"; }

  json choice(const ChoicePart& all) const override {
    return {{"index", all.index},
            {"message", {{"role", "assistant"}, {"content", all.text}, {"refusal", nullptr}}},
            {"logprobs", logprobs(all.tokens)},
            {"finish_reason", all.finish_reason}};
  }

  std::vector<json> event_choices(const ChoicePart& part, bool first) const override {
    std::vector<json> events;
    const auto add = [&](json delta, json scores, json finish) {
      events.push_back({{"index", part.index},
                        {"delta", std::move(delta)},
                        {"logprobs", std::move(scores)},
                        {"finish_reason", std::move(finish)}});
    };
    if (first) add({{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
    if (!part.text.empty() || !part.tokens.empty()) {
      add({{"content", part.text}}, logprobs(part.tokens), nullptr);
    }
    if (!part.finish_reason.empty()) add(json::object(), nullptr, part.finish_reason);
    return events;
  }

 private:
  json entry(int32_t id, double logprob) const {
    const auto bytes = served_.tokens.bytes(id);
    return {{"token", served_.tokens.name(id)},
            {"logprob", shown_logprob(logprob)},
            {"bytes", bytes ? json(*bytes) : json()}};
  }

  json logprobs(const std::vector<ListedToken>& tokens) const {
    if (tokens.empty()) return nullptr;
    json content = json::array();
    for (const ListedToken& token : tokens) {
      content.push_back(entry(token.id, token.score->logprob));
      json& top = content.back()["top_logprobs"] = json::array();
      for (const TokenLogprob& other : token.score->top) top.push_back(entry(other.id, other.logprob));
    }
    return {{"content", content}, {"refusal", nullptr}};
  }

  const ServedModel& served_;
};

std::string read_content(const JsonNode& content) {
  if (content.is_null()) return "";
  if (content.is_string()) return content.string();
  std::string text;
  for (const JsonNode& part : content.items()) {
    if (part["type"].string() != "text") part["type"].fail("only parts of type text are supported");
    text += part["text"].string();
  }
  return text;
}

}  // namespace

PromptRequest read_chat(const RequestBody& body, const ServedModel& served) {
  PromptRequest chat{.generation = read_generation(body, served)};
  GenerationRequest& request = chat.generation;
  if (request.max_tokens == 0) throw ApiError::invalid("max_tokens", "max_tokens is 0: nothing to answer");
  const int64_t top = body.read(
      "top_logprobs", [](const JsonNode& node) { return node.is_null() ? 0 : node.integer<int64_t>(0, 20); });
  if (body.get_or("logprobs", false)) {
    request.top_logprobs = top;
  } else if (top > 0) {
    throw ApiError::invalid("top_logprobs", "top_logprobs needs logprobs: true");
  }
  chat.prompts = {render_messages(body, served)};
  check_prompt(chat.prompts.front(), served, "messages");
  return chat;
}

std::vector<int32_t> render_messages(const RequestBody& body, const ServedModel& served) {
  ChatPrompt prompt{.messages = read_messages(body)};
  prompt.add_generation_prompt = body.get_or("add_generation_prompt", true);
  body.read("chat_template_kwargs", [&](const JsonNode& node) {
    if (!node.is_null()) node.object();
    prompt.variables = node.is_null() ? ChatPrompt::Json::object() : ChatPrompt::Json(node.value());
    return 0;
  });
  if (!served.chat) {
    throw ApiError::invalid("messages",
                            "this model has no chat template; serve it with --chat-template FILE, or ask "
                            "for /v1/completions",
                            "template_error");
  }
  try {
    return served.tokenizer.encode(served.chat->render(prompt), /*add_special_tokens=*/false);
  } catch (const Error& e) {
    throw ApiError::invalid("messages", e.what(), "template_error");
  }
}

ChatPrompt::Json read_messages(const RequestBody& body) {
  return body.read("messages", [](const JsonNode& node) {
    if (node.is_null()) node.fail("is missing; give a list of messages");
    ChatPrompt::Json messages = ChatPrompt::Json::array();
    for (const JsonNode& message : node.items()) {
      ChatPrompt::Json copy = message.value();
      message["role"].string();
      copy["content"] = read_content(message["content"]);
      messages.push_back(std::move(copy));
    }
    if (messages.empty()) node.fail("is empty; give at least one message");
    return messages;
  });
}

std::unique_ptr<ReplyFormat> chat_format(const ServedModel& served) {
  return std::make_unique<ChatFormat>(served);
}

}  // namespace tessera
