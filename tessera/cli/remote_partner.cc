// A server of OpenAI's API as the one who answers.
#include <cstdlib>
#include <optional>

#include "tessera/base/json_node.h"
#include "tessera/base/stopwatch.h"
#include "tessera/cli/chat_partner.h"
#include "tessera/server/http_client.h"

namespace tessera {
namespace {

using nlohmann::json;

std::string authorization() {
  for (const char* name : {"TESSERA_API_KEY", "OPENAI_API_KEY"}) {
    if (const char* key = std::getenv(name); key && *key) return fmt::format("Bearer {}", key);
  }
  return "";
}

/// What the server says is wrong, in its own words where it has some.
std::string refusal(const HttpReply& reply) {
  const json body = json::parse(reply.body, nullptr, /*allow_exceptions=*/false);
  const json::json_pointer message("/error/message");
  if (!body.is_object() || !body.contains(message) || !body[message].is_string())
    return fmt::format("status {}", reply.status);
  const std::string key = reply.status == 401 ? " (TESSERA_API_KEY holds the key)" : "";
  return fmt::format("{}{}", body[message].get<std::string>(), key);
}

/// Cuts a stream of events into the data of each.
class EventReader {
 public:
  template <class Visit>
  void push(std::string_view piece, const Visit& visit) {
    rest_ += piece;
    for (size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n')) {
      const std::string line = rest_.substr(0, end);
      rest_.erase(0, end + 1);
      constexpr std::string_view kData = "data:";
      if (line.starts_with(kData)) visit(std::string_view(line).substr(kData.size()));
    }
  }

 private:
  std::string rest_;
};

/// The answer as its events come.
class AnswerReader {
 public:
  AnswerReader(const std::string& server, const TextSink& sink) : server_(server), sink_(sink) {}

  void push(std::string_view piece) {
    events_.push(piece, [this](std::string_view data) { take(data); });
  }

  ChatAnswer answer(bool cancelled) {
    if (cancelled) answer_.ended_by = "Ctrl-C";
    if (tokens_ > 0) answer_.tokens = tokens_;
    if (watch_ && answer_.tokens > 1)
      answer_.tokens_per_second = static_cast<double>(answer_.tokens - 1) / watch_->seconds();
    return std::move(answer_);
  }

 private:
  void take(std::string_view data) {
    while (data.starts_with(' ')) data.remove_prefix(1);
    if (data.starts_with("[DONE]")) return;
    const json document = parse_json(data, server_);
    const JsonNode event(document, server_);
    if (!event["error"].is_null())
      throw Error("{}: {}", server_, event["error"]["message"].get_or<std::string>("an error"));
    if (const JsonNode usage = event["usage"]; !usage.is_null())
      tokens_ = usage["completion_tokens"].integer<int64_t>(0);
    if (event["choices"].is_null()) return;
    for (const JsonNode& choice : event["choices"].items()) {
      answer_.ended_by = choice["finish_reason"].get_or<std::string>(answer_.ended_by);
      if (choice["delta"].is_null()) continue;
      const std::string text = choice["delta"]["content"].get_or<std::string>("");
      if (text.empty()) continue;
      if (!watch_) watch_.emplace();
      answer_.text += text;
      ++answer_.tokens;
      sink_(text);
    }
  }

  const std::string& server_;
  const TextSink& sink_;
  EventReader events_;
  ChatAnswer answer_;
  int64_t tokens_ = 0;              ///< as the server counts them
  std::optional<Stopwatch> watch_;  ///< since the first piece
};

class RemotePartner : public ChatPartner {
 public:
  explicit RemotePartner(const std::string& url) : server_(url), url_(HttpUrl::parse(url)) {
    if (!url_.path.ends_with("/v1")) url_.path += "/v1";
    const HttpReply reply =
        http_call(url_, {.path = url_.path + "/models", .authorization = authorization()});
    if (reply.status != 200) throw Error("{}: {}", server_, refusal(reply));
    const json document = parse_json(reply.body, server_);
    const auto models = JsonNode(document, server_)["data"].items();
    if (models.empty()) throw Error("{}: the server has no model", server_);
    model_ = models[0]["id"].string();
  }

  std::string name() const override { return fmt::format("{} at {}", model_, server_); }

  ChatAnswer answer(const ChatPrompt::Json& messages, const GenerateOptions& options,
                    const TextSink& sink) override {
    AnswerReader reader(server_, sink);
    const HttpReply reply = http_call(url_, {.method = "POST",
                                             .path = url_.path + "/chat/completions",
                                             .body = body(messages, options).dump(),
                                             .authorization = authorization(),
                                             .on_piece = [&](std::string_view piece) { reader.push(piece); },
                                             .cancelled = options.interrupted});
    if (!reply.cancelled && reply.status != 200) throw Error("{}: {}", server_, refusal(reply));
    return reader.answer(reply.cancelled);
  }

 private:
  /// The fields that every such server knows, and of the others those that were asked for.
  ChatPrompt::Json body(const ChatPrompt::Json& messages, const GenerateOptions& o) const {
    const GenerateOptions plain;
    ChatPrompt::Json body = {{"model", model_},
                             {"messages", messages},
                             {"stream", true},
                             {"stream_options", {{"include_usage", true}}},
                             {"max_tokens", o.max_tokens},
                             {"temperature", o.sampling.temperature},
                             {"top_p", o.sampling.top_p},
                             {"seed", o.sampling.seed}};
    const auto add = [&](const char* name, const auto& value, const auto& usual) {
      if (value != usual) body[name] = value;
    };
    add("stop", o.stop, plain.stop);
    add("top_k", o.sampling.top_k, plain.sampling.top_k);
    add("min_p", o.sampling.min_p, plain.sampling.min_p);
    add("repetition_penalty", o.rules.repetition_penalty, plain.rules.repetition_penalty);
    add("presence_penalty", o.rules.presence_penalty, plain.rules.presence_penalty);
    add("frequency_penalty", o.rules.frequency_penalty, plain.rules.frequency_penalty);
    add("min_tokens", o.rules.min_tokens, plain.rules.min_tokens);
    return body;
  }

  const std::string server_;
  HttpUrl url_;
  std::string model_;
};

}  // namespace

std::unique_ptr<ChatPartner> remote_partner(const std::string& url) {
  return std::make_unique<RemotePartner>(url);
}

}  // namespace tessera
