// Where calibration windows come from. Shared by quantize, compare and demo.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "tessera/base/reporter.h"
#include "tessera/quant/calibration.h"

namespace tessera {

struct CalibrationRequest {
  std::string source = "self";  ///< a UTF-8 text file, or "self": text sampled from the float model
  int64_t windows = 128;
  int64_t tokens = 0;  ///< a window; 0: the model's context, at most 2048
  uint64_t seed = 0;

  /// The options --calib, --windows, --tokens and --seed.
  void add_to(CLI::App& command);
};

/// Reads or samples the calibration windows for the model in `dir`. Throws Error when the text is too short.
CalibrationSet make_calibration(const std::string& dir, const CalibrationRequest& request,
                                Reporter& reporter);

}  // namespace tessera
