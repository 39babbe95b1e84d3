// CalibrationRequest as options and back.
#include "tessera/program/calibration_request.h"

namespace tessera {

void CalibrationRequest::add_to(CLI::App& command) {
  command.add_option("--calib", source, "Calibration text, or 'self' to sample it from the model")
      ->capture_default_str();
  command.add_option("--windows", windows, "Calibration windows (default: 128 of a text, 16 with 'self')")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--tokens", tokens,
                  "Tokens a calibration window (default: the context, at most 2048, 512 with 'self')")
      ->check(CLI::PositiveNumber);
  command.add_option("--seed", seed, "Seed of the calibration windows")->capture_default_str();
}

std::vector<std::string> CalibrationRequest::arguments() const {
  std::vector<std::string> out{"--calib=" + source, "--seed=" + std::to_string(seed)};
  if (windows > 0) out.push_back("--windows=" + std::to_string(windows));
  if (tokens > 0) out.push_back("--tokens=" + std::to_string(tokens));
  return out;
}

}  // namespace tessera
