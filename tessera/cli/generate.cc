// tessera generate: text from a prompt, streamed.
#include <fmt/format.h>

#include <cstdio>

#include "tessera/cli/commands.h"
#include "tessera/engine/generator.h"
#include "tessera/program/loaded_model.h"

namespace tessera {
namespace {

using nlohmann::json;

struct Options {
  std::string dir, prompt;
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

void run(const Options& o, const GlobalOptions& global) {
  const LoadedModel loaded = load_model(o.dir, o.device);
  o.kv.apply(*loaded.model);
  Generator generator(*loaded.model, *loaded.tokenizer);
  const auto print = [](std::string_view piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  const Generation g = generator.generate(o.prompt, o.generate, global.json ? TextSink() : TextSink(print));
  if (global.json) {
    fmt::print("{}\n", result_json(o, g).dump(2, ' ', false, json::error_handler_t::replace));
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
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt");
  auto o = std::make_shared<Options>();
  command->footer(
      "Examples:\n  tessera generate llama-qqq --prompt \"The history of the city\"\n"
      "  tessera generate llama-qqq --prompt \"Once upon\" --temperature 0.8 --top-p 0.95 --seed 1 --stop "
      "\"\\n\"");
  command->add_option("model", o->dir, "Model folder")->required();
  command->add_option("-p,--prompt", o->prompt, "The text to continue")->required();
  command->add_option("-n,--max-tokens", o->generate.max_tokens, "Tokens to write at most")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  SamplingOptions& s = o->generate.sampling;
  command->add_option("--temperature", s.temperature, "0: greedy, the same text every time")
      ->capture_default_str();
  command->add_option("--top-k", s.top_k, "Draw from the k likeliest tokens; 0: from all")
      ->capture_default_str();
  command->add_option("--top-p", s.top_p, "Draw from the likeliest tokens that hold this probability")
      ->capture_default_str();
  command
      ->add_option("--min-p", s.min_p, "Leave out what is less likely than this share of the likeliest token")
      ->capture_default_str();
  command->add_option("--seed", s.seed, "Seed of the draws")->capture_default_str();
  LogitRules& r = o->generate.rules;
  command
      ->add_option("--repetition-penalty", r.repetition_penalty,
                   "Divides logits of tokens that were there; 1: none")
      ->capture_default_str();
  command
      ->add_option("--presence-penalty", r.presence_penalty,
                   "Taken from the logits of tokens of the new text")
      ->capture_default_str();
  command
      ->add_option("--frequency-penalty", r.frequency_penalty, "The same, for each time that they are there")
      ->capture_default_str();
  command->add_option("--min-tokens", r.min_tokens, "Tokens to write before the text may end")
      ->capture_default_str();
  o->kv.add_to(*command);
  o->device.add_to(*command);
  command->add_option("--stop", o->generate.stop, "End before this string (may be repeated)");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
