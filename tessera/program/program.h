// The frame of a program: global options, commands, and what becomes of an Error.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace tessera {

/// Options that every command understands.
struct GlobalOptions {
  bool json = false;   ///< results as JSON on stdout
  bool quiet = false;  ///< no progress
  int threads = 0;     ///< 0: all cores
};

/// Adds one command to `app`; `global` outlives it.
using AddCommand = std::function<void(CLI::App& app, const GlobalOptions& global)>;

/// A command of `app`. CLI11 is headers alone: its own add_subcommand would be compiled in the file of every
/// command.
CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description);

/// Parses the arguments and runs the command that they name. An Error becomes one line on stderr. Returns the
/// exit status: 2 after an Error, else 0.
int run_program(int argc, char** argv, const std::string& description,
                const std::vector<AddCommand>& commands);

}  // namespace tessera
