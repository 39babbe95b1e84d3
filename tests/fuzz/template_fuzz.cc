// Chat templates: the source is hostile, the messages are ordinary. Small limits, since time is not what is
// looked for.
#include "hostile_input.h"
#include "tessera/chat/jinja/template.h"

void tessera::read_hostile_input(std::string_view input) {
  static const jinja::Json kVariables = jinja::Json::parse(R"({
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Grüße 👋 "},
                 {"role": "assistant", "content": "a\nb", "tool_calls": [{"name": "f", "arguments": {"x": [1, 2.5, null]}}]}],
    "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "tools": null, "n": -7})");
  jinja::Template(input, "input").render(kVariables, 0, {.steps = 20'000, .output_bytes = size_t{1} << 16});
}
