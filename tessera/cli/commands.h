// The commands of `tessera`; each adds itself to the program. `global` outlives `app`.
#pragma once

#include <CLI/CLI.hpp>

#include "tessera/program/program.h"

namespace tessera {

void add_perplexity(CLI::App& app, const GlobalOptions& global);
void add_eval(CLI::App& app, const GlobalOptions& global);
void add_compare(CLI::App& app, const GlobalOptions& global);
void add_verify(CLI::App& app, const GlobalOptions& global);
void add_generate(CLI::App& app, const GlobalOptions& global);
void add_chat(CLI::App& app, const GlobalOptions& global);
void add_serve(CLI::App& app, const GlobalOptions& global);
void add_convert(CLI::App& app, const GlobalOptions& global);
void add_inspect(CLI::App& app, const GlobalOptions& global);
void add_bench(CLI::App& app, const GlobalOptions& global);
void add_demo(CLI::App& app, const GlobalOptions& global);

/// quantize and methods, which the quantizer program answers, called with the same `argv`.
void add_quantizer_commands(CLI::App& app, char** argv);

}  // namespace tessera
