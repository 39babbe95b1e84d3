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
  command.add_option("--seed", s.seed, "Seed of the draws")->capture_default_str();
  command.add_option("--stop", options.stop, "End before this string (may be repeated)");
}

}  // namespace tessera
