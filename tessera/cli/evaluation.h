// Perplexity and comparison as several commands print them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/cli/command.h"

namespace tessera {

struct EvaluationRequest {
  std::string file;               ///< UTF-8 text
  std::string protocol = "gptq";  ///< or "llama.cpp"
  int64_t window = 0;             ///< tokens; 0: the protocol's default for the model
  int64_t max_windows = 0;        ///< 0: all
};

/// Perplexity of each model folder in turn; prints a table unless --json. Returns the same as JSON.
nlohmann::json evaluate_perplexity(const std::vector<std::string>& dirs, const EvaluationRequest& request,
                                   const GlobalOptions& global, Reporter& reporter);

}  // namespace tessera
