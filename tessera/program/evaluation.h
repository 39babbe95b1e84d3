// Texts and perplexity as several commands use and print them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/eval/comparison.h"
#include "tessera/eval/windows.h"
#include "tessera/program/loaded_model.h"
#include "tessera/program/program.h"

namespace tessera {

/// The options --text, --window, --protocol, --max-windows, --kv-bits and --device.
struct TextOptions {
  std::string file;
  std::string protocol = "gptq";
  int64_t window = 0;
  int64_t max_windows = 0;
  KvOption kv = {};
  DeviceOption device = {};

  void add_to(CLI::App& command);
};

/// Reads, tokenizes and cuts the text for a model. Throws Error naming the file.
Windows read_windows(const TextOptions& options, const Tokenizer& tokenizer, const ModelSpec& spec);

/// Throws what read_windows would, without loading the model in `dir`.
void check_text(const std::string& dir, const TextOptions& options);

nlohmann::json to_json(const Perplexity& perplexity);

/// Perplexity of each model folder in turn, one in memory at a time. Prints a table unless --json; returns
/// the same as JSON.
nlohmann::json evaluate_perplexity(const std::vector<std::string>& dirs, const TextOptions& text,
                                   const GlobalOptions& global, Reporter& reporter);

}  // namespace tessera
