// CalibrationRequest as options and back.
#include "tessera/program/calibration_request.h"

namespace tessera {

void CalibrationRequest::add_to(CLI::App& command) {
  command.add_option("--calib", source, "Calibration text, or 'self' to sample it from the model")
      ->capture_default_str();
  command.add_option("--windows", windows, "Calibration windows")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--tokens", tokens, "Tokens a calibration window (default: the context, at most 2048)")
      ->check(CLI::PositiveNumber);
  command.add_option("--seed", seed, "Seed of the calibration windows")->capture_default_str();
}

std::vector<std::string> CalibrationRequest::arguments() const {
  std::vector<std::string> out{"--calib=" + source, "--windows=" + std::to_string(windows),
                               "--seed=" + std::to_string(seed)};
  if (tokens > 0) out.push_back("--tokens=" + std::to_string(tokens));
  return out;
}

}  // namespace tessera
