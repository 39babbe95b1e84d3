// Where calibration windows come from. Shared by quantize, compare and demo.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

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

/// The calibration windows for the model in `dir`: those of the text, or a sampler that draws them from the
/// model once and keeps them. Throws Error when the text is too short or windows exceed the context.
CalibrationSet make_calibration(const std::string& dir, const CalibrationRequest& request);

}  // namespace tessera
