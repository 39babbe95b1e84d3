// tokenizer.json, and a text through whatever it makes.
#include "hostile_input.h"
#include "tessera/text/hf_tokenizer.h"

void tessera::read_hostile_input(std::string_view input) {
  const nlohmann::json document = parse_json(input, "tokenizer.json");
  const HfTokenizer tokenizer(JsonNode(document, "tokenizer.json"));
  tokenizer.decode(tokenizer.encode("The city's 12 caf\u00e9s, \u4e16\u754c \xf0\x9f\x91\x8b </s>\n", true),
                   false);
}
