// /tokenize, /detokenize, /tokenizer_info.
#include "tessera/server/chat_completions.h"
#include "tessera/server/routes.h"

namespace tessera {

using nlohmann::json;

namespace {

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

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
  respond(visit, {.body = dump({{"prompt", served.tokenizer.decode(tokens, /*skip_special=*/false)}})});
}

void Routes::tokenizer_info(const VisitPtr& visit) {
  const ServedModel& served = context_.served;
  const auto text_of = [&](std::optional<int32_t> id) {
    return id ? json(served.tokenizer.decode({{*id}}, /*skip_special=*/false)) : json();
  };
  respond(
      visit,
      {.body = dump({{"bos_token", text_of(served.tokenizer.bos_id())},
                     {"eos_token", text_of(served.tokenizer.eos_id())},
                     {"bos_token_id", served.tokenizer.bos_id() ? json(*served.tokenizer.bos_id()) : json()},
                     {"eos_token_id", served.tokenizer.eos_id() ? json(*served.tokenizer.eos_id()) : json()},
                     {"pad_token", nullptr},
                     {"chat_template", nullptr},
                     {"vocab_size", served.model.spec().vocab_size},
                     {"model_max_length", served.max_length}})});
}

}  // namespace tessera
