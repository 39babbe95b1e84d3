// The commands of `tessera-quantize`; each adds itself to the program. `global` outlives `app`.
#pragma once

#include <CLI/CLI.hpp>

#include "tessera/program/program.h"

namespace tessera {

void add_quantize(CLI::App& app, const GlobalOptions& global);
void add_methods(CLI::App& app, const GlobalOptions& global);
/// For `tessera compare --methods` and `tessera demo`.
void add_each(CLI::App& app, const GlobalOptions& global);
/// For `tessera verify`.
void add_simulate(CLI::App& app, const GlobalOptions& global);

}  // namespace tessera
