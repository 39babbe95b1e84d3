// The options of commands that write text.
#pragma once

#include <CLI/CLI.hpp>

#include "tessera/engine/generator.h"

namespace tessera {

/// --max-tokens, --temperature, --top-p, the penalties, --seed, --stop and their kin, with the values of
/// `options` as defaults. `options` must outlive the command.
void add_sampling_options(CLI::App& command, GenerateOptions& options);

}  // namespace tessera
