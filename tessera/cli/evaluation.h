// Texts, perplexity and comparison as several commands use and print them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/cli/command.h"
#include "tessera/eval/comparison.h"
#include "tessera/eval/windows.h"

namespace tessera {

/// The options --text, --window, --protocol, --max-windows and --kv-bits.
struct TextOptions {
  std::string file;
  std::string protocol = "gptq";
  int64_t window = 0;
  int64_t max_windows = 0;
  KvOption kv = {};

  void add_to(CLI::App& command);
};

/// Reads, tokenizes and cuts the text for `loaded`. Throws Error naming the file.
Windows read_windows(const TextOptions& options, const LoadedModel& loaded);

/// Throws what read_windows would, without loading the model in `dir`.
void check_text(const std::string& dir, const TextOptions& options);

nlohmann::json to_json(const Perplexity& perplexity);

/// Perplexity of each model folder in turn, one in memory at a time. Prints a table unless --json; returns
/// the same as JSON.
nlohmann::json evaluate_perplexity(const std::vector<std::string>& dirs, const TextOptions& text,
                                   const GlobalOptions& global, Reporter& reporter);

/// Last component of a model folder: its name in tables.
std::string base_name(const std::string& dir);

/// Size of the weights of a model folder in bytes.
size_t weight_bytes(const std::string& dir);

}  // namespace tessera
