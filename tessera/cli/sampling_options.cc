// Sampling options.
#include "tessera/cli/sampling_options.h"

namespace tessera {

void add_sampling_options(CLI::App& command, GenerateOptions& options) {
  command.add_option("-n,--max-tokens", options.max_tokens, "Tokens to write at most")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  SamplingOptions& s = options.sampling;
  command.add_option("--temperature", s.temperature, "0: greedy, the same text every time")
      ->capture_default_str();
  command.add_option("--top-k", s.top_k, "Draw from the k likeliest tokens; 0: from all")
      ->capture_default_str();
  command.add_option("--top-p", s.top_p, "Draw from the likeliest tokens that hold this probability")
      ->capture_default_str();
  command
      .add_option("--min-p", s.min_p, "Leave out what is less likely than this share of the likeliest token")
      ->capture_default_str();
  command.add_option("--seed", s.seed, "Seed of the draws")->capture_default_str();
  LogitRules& r = options.rules;
  command
      .add_option("--repetition-penalty", r.repetition_penalty,
                  "Divides logits of tokens that were there; 1: none")
      ->capture_default_str();
  command
      .add_option("--presence-penalty", r.presence_penalty, "Taken from the logits of tokens of the new text")
      ->capture_default_str();
  command
      .add_option("--frequency-penalty", r.frequency_penalty, "The same, for each time that they are there")
      ->capture_default_str();
  command.add_option("--min-tokens", r.min_tokens, "Tokens to write before the text may end")
      ->capture_default_str();
  command.add_option("--stop", options.stop, "End before this string (may be repeated)");
}

}  // namespace tessera
