// The second program, tessera-quantize. It holds whatever needs libtorch and stands beside this one, or in
// PATH.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/program/program.h"

namespace tessera {

/// Where it is; empty when it is not installed.
std::filesystem::path find_quantizer();
/// How to get it, for lines that say that it is missing.
std::string quantizer_advice();

/// Becomes the quantizer: its output, exit status and signals are this process's. Throws Error when it is not
/// installed.
[[noreturn]] void become_quantizer(char** argv);

/// What the quantizer answers, as JSON, to `arguments`, which begin with one of its commands; its progress
/// goes to our stderr. When it fails, which it has then said itself, this process ends as it did. Throws
/// Error when it is not installed.
nlohmann::json ask_quantizer(const std::vector<std::string>& arguments, const GlobalOptions& global);

}  // namespace tessera
