// tessera-quantize each.
#include "tessera/cli/quantize_each.h"

#include <fmt/ranges.h>

#include <filesystem>

#include "tessera/cli/quantizer_program.h"

namespace tessera {

std::vector<MadeModel> quantize_each(const std::string& model, const std::vector<std::string>& methods,
                                     int64_t group_size, const CalibrationRequest& calibration,
                                     const std::string& folder, const GlobalOptions& global) {
  std::vector<std::string> arguments{"each", model, fmt::format("--methods={}", fmt::join(methods, ",")),
                                     "--work=" + folder};
  if (group_size > 0) arguments.push_back(fmt::format("--group-size={}", group_size));
  for (const std::string& argument : calibration.arguments()) arguments.push_back(argument);
  std::vector<MadeModel> made;
  for (const nlohmann::json& run : ask_quantizer(arguments, global)) {
    const std::string method = run.at("method");
    made.push_back({method, run.at("skipped"), (std::filesystem::path(folder) / method).string()});
  }
  return made;
}

}  // namespace tessera
