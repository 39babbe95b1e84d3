// What all commands share: the global options, and how each adds itself to the program.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "tessera/cli/terminal.h"
#include "tessera/kernels/backend.h"
#include "tessera/model/model.h"
#include "tessera/text/tokenizer.h"

namespace tessera {

/// Options that every command understands.
struct GlobalOptions {
  bool json = false;   ///< results as JSON on stdout
  bool quiet = false;  ///< no progress
  int threads = 0;     ///< 0: all cores
};

/// The option --kv-bits.
struct KvOption {
  int bits = 0;  ///< 16, 8 or 4; 0: what the checkpoint asks for

  void add_to(CLI::App& command);
  /// Sets the format of the model's caches.
  void apply(Model& model) const;
};

/// A model with its tokenizer on the best backend of this machine.
struct LoadedModel {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Model> model;
};

/// The backend of this process, made on first use.
Backend& default_backend();

LoadedModel load_model(const std::string& dir);

/// Ids of a UTF-8 text file with the tokenizer's own BOS. Throws Error when the file cannot be read or is
/// empty.
std::vector<int32_t> encode_file(const Tokenizer& tokenizer, const std::string& path);

// Each adds one command to `app`; `global` outlives it.
void add_quantize(CLI::App& app, const GlobalOptions& global);
void add_methods(CLI::App& app, const GlobalOptions& global);
void add_perplexity(CLI::App& app, const GlobalOptions& global);
void add_compare(CLI::App& app, const GlobalOptions& global);
void add_verify(CLI::App& app, const GlobalOptions& global);
void add_generate(CLI::App& app, const GlobalOptions& global);
void add_inspect(CLI::App& app, const GlobalOptions& global);
void add_bench(CLI::App& app, const GlobalOptions& global);
void add_demo(CLI::App& app, const GlobalOptions& global);

}  // namespace tessera
