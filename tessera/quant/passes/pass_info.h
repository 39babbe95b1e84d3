// What passes there are. Free of libtorch, so that the command line can read it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tessera {

/// Names and options of all passes, for --help and error messages.
struct PassInfo {
  std::string name, summary;
  nlohmann::json defaults;  ///< option -> default value
};
std::vector<PassInfo> known_passes();

}  // namespace tessera
