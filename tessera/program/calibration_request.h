// The options that say where calibration windows come from. Shared by quantize, compare and demo.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

struct CalibrationRequest {
  std::string source = "self";  ///< a UTF-8 text file, or "self": text sampled from the float model
  int64_t windows = 0;          ///< 0: 128 of a text, 16 sampled
  int64_t tokens = 0;           ///< a window; 0: the context, at most 2048 of a text, 512 sampled
  uint64_t seed = 0;

  /// The options --calib, --windows, --tokens and --seed.
  void add_to(CLI::App& command);
  /// The same options with these values, for another program's command line.
  std::vector<std::string> arguments() const;
};

}  // namespace tessera
