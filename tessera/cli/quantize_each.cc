// tessera-quantize each.
#include "tessera/cli/quantize_each.h"

#include <fmt/ranges.h>

#include "tessera/cli/quantizer_program.h"

namespace tessera {

std::vector<std::string> quantize_each(const std::string& model, const std::vector<std::string>& methods,
                                       const CalibrationRequest& calibration, const std::string& folder,
                                       const GlobalOptions& global) {
  std::vector<std::string> arguments{"each", model, fmt::format("--methods={}", fmt::join(methods, ",")),
                                     "--work=" + folder};
  for (const std::string& argument : calibration.arguments()) arguments.push_back(argument);
  return ask_quantizer(arguments, global);
}

}  // namespace tessera
