// tessera bench model: its own file, since it has options enough.
#pragma once

#include <CLI/CLI.hpp>

#include "tessera/program/program.h"

namespace tessera {

/// Adds `model` to the command `bench`. `global` outlives it.
void add_bench_model(CLI::App& bench, const GlobalOptions& global);

}  // namespace tessera
