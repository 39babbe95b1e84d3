// Checks of a pass's options.
#include "tessera/quant/passes/options.h"

#include <fmt/ranges.h>

namespace tessera {
namespace {

bool same_kind(const nlohmann::json& value, const nlohmann::json& example) {
  if (example.is_number_float()) return value.is_number();
  if (example.is_number_integer()) return value.is_number_integer();
  return value.type() == example.type();
}

}  // namespace

PassOptions::PassOptions(const PassInfo& info, const nlohmann::json& step)
    : place_("pass " + info.name), values_(info.defaults) {
  for (const auto& [key, value] : step.items()) {
    if (key == "pass") continue;
    if (!values_.contains(key)) {
      std::vector<std::string> known;
      for (const auto& [name, ignored] : values_.items()) known.push_back(name);
      throw Error("{}: unknown option '{}' (known: {})", place_, key, fmt::join(known, ", "));
    }
    if (const JsonNode option = (*this)[key]; !same_kind(value, option.value()))
      option.fail("expected something like {}, found {}", option.shown(), JsonNode(value, "").shown());
    values_[key] = value;
  }
}

}  // namespace tessera
