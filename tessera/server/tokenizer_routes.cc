// /tokenize, /detokenize, /tokenizer_info.
#include "tessera/server/chat_completions.h"
#include "tessera/server/routes.h"

namespace tessera {

using nlohmann::json;

void Routes::tokenize(const VisitPtr& visit) {
  const RequestBody body(visit->request.body);
  const ServedModel& served = context_.served;
  if (body.has("model")) served.check_name(body.get_or<std::string>("model", ""));
  std::vector<int32_t> tokens;
  if (body.has("messages")) {
    tokens = render_messages(body, served);
  } else {
    const std::string prompt = body.read("prompt", [](const JsonNode& node) {
      if (node.is_null()) node.fail("is missing; give a text, or messages");
      return node.string();
    });
    tokens = served.tokenizer.encode(prompt, body.get_or("add_special_tokens", true));
  }
  const json answer = {{"tokens", tokens}, {"count", tokens.size()}, {"max_model_len", served.max_length}};
  respond(visit, {.body = to_text(answer)});
}

void Routes::detokenize(const VisitPtr& visit) {
  const RequestBody body(visit->request.body);
  const ServedModel& served = context_.served;
  if (body.has("model")) served.check_name(body.get_or<std::string>("model", ""));
  const auto last = static_cast<int32_t>(served.model.spec().vocab_size - 1);
  const auto tokens = body.read("tokens", [&](const JsonNode& node) {
    if (node.is_null()) node.fail("is missing; give a list of token ids");
    std::vector<int32_t> ids;
    for (const JsonNode& item : node.items()) ids.push_back(item.integer<int32_t>(0, last));
    return ids;
  });
  const json answer = {{"prompt", served.tokenizer.decode(tokens, /*skip_special=*/false)}};
  respond(visit, {.body = to_text(answer)});
}

void Routes::tokenizer_info(const VisitPtr& visit) {
  const ServedModel& served = context_.served;
  const auto text_of = [&](std::optional<int32_t> id) {
    return id ? json(served.tokenizer.decode({{*id}}, /*skip_special=*/false)) : json();
  };
  const auto or_null = [](std::optional<int32_t> id) { return id ? json(*id) : json(); };
  const Tokenizer& tokenizer = served.tokenizer;
  const json answer = {{"bos_token", text_of(tokenizer.bos_id())},
                       {"eos_token", text_of(tokenizer.eos_id())},
                       {"bos_token_id", or_null(tokenizer.bos_id())},
                       {"eos_token_id", or_null(tokenizer.eos_id())},
                       {"pad_token", nullptr},
                       {"chat_template", nullptr},
                       {"vocab_size", served.model.spec().vocab_size},
                       {"model_max_length", served.max_length}};
  respond(visit, {.body = to_text(answer)});
}

}  // namespace tessera
