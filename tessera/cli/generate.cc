// tessera generate: text from a prompt, streamed.
#include <fmt/format.h>

#include <cstdio>

#include "tessera/chat/chat_template.h"
#include "tessera/cli/commands.h"
#include "tessera/cli/sampling_options.h"
#include "tessera/program/loaded_model.h"
#include "tessera/program/output.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

using nlohmann::json;

struct Options {
  std::string dir, prompt;
  bool chat = false;
  std::string system, template_file;  ///< empty: none, and the model's own
  GenerateOptions generate;
  KvOption kv = {};
  DeviceOption device = {};
};

json result_json(const Options& o, const Generation& g) {
  return {{"prompt", o.prompt},
          {"text", g.text},
          {"ids", g.ids},
          {"finish", name_of(g.finish)},
          {"prompt_tokens", g.prompt_tokens},
          {"prefill_tokens_per_second", g.prefill_rate()},
          {"decode_tokens_per_second", g.decode_rate()}};
}

/// The prompt as a user's message, in the form that the model was trained on.
std::vector<int32_t> chat_ids(const Options& o, const Tokenizer& tokenizer) {
  const auto chat_template = require_chat_template(o.dir, o.template_file, "--template");
  ChatPrompt prompt;
  if (!o.system.empty()) prompt.messages.push_back(chat_message("system", o.system));
  prompt.messages.push_back(chat_message("user", o.prompt));
  return tokenizer.encode(chat_template->render(prompt), /*add_special_tokens=*/false);
}

void run(const Options& o, const GlobalOptions& global) {
  TerminalReporter reporter(global.quiet);
  const LoadedModel loaded = load_model(o.dir, o.device, reporter);
  o.kv.apply(*loaded.model);
  Generator generator(*loaded.model, *loaded.tokenizer);
  const auto print = [](std::string_view piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    flush_output();
  };
  const TextSink sink = global.json ? TextSink() : TextSink(print);
  const Generation g = o.chat ? generator.generate(chat_ids(o, *loaded.tokenizer), o.generate, sink)
                              : generator.generate(o.prompt, o.generate, sink);
  if (global.json) {
    fmt::print("{}\n", json_text(result_json(o, g), 2));
    return;
  }
  fmt::print("\n");
  if (!global.quiet) {
    fmt::print(stderr, "[{}: {} prompt tokens at {:.0f}/s, {} tokens at {:.0f}/s, ended by {}]\n",
               o.device.backend().name(), g.prompt_tokens, g.prefill_rate(), g.ids.size(), g.decode_rate(),
               name_of(g.finish));
  }
}

}  // namespace

void add_generate(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = add_command(app, "generate", "Continue a prompt");
  auto o = std::make_shared<Options>();
  command->footer(
      "Examples:\n  tessera generate llama-qqq --prompt \"The history of the city\"\n"
      "  tessera generate llama-qqq --prompt \"Once upon\" --temperature 0.8 --top-p 0.95 --seed 1 --stop "
      "\"\\n\"\n"
      "  tessera generate llama-chat-qqq --chat --prompt \"Name three rivers.\"");
  command->add_option("model", o->dir, "Model folder or GGUF file")->required();
  command->add_option("-p,--prompt", o->prompt, "The text to continue")->required();
  add_sampling_options(*command, o->generate);
  o->kv.add_to(*command);
  o->device.add_to(*command);
  CLI::Option* chat = command->add_flag("--chat", o->chat, "The prompt is a user's message to a chat model");
  command->add_option("--system", o->system, "With --chat: a system message in front of it")->needs(chat);
  command
      ->add_option("--template", o->template_file, "With --chat: a Jinja template instead of the model's own")
      ->needs(chat);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
