// Checks of a pass's options.
#include "tessera/quant/passes/options.h"

namespace tessera {
namespace {

bool same_kind(const nlohmann::json& value, const nlohmann::json& example) {
  if (example.is_number_float()) return value.is_number();
  if (example.is_number_integer()) return value.is_number_integer();
  return value.type() == example.type();
}

}  // namespace

PassOptions::PassOptions(const PassInfo& info, const nlohmann::json& step)
    : pass_(info.name), values_(info.defaults) {
  for (const auto& [key, value] : step.items()) {
    if (key == "pass") continue;
    if (!values_.contains(key)) {
      std::string known;
      for (const auto& [name, ignored] : values_.items()) known += (known.empty() ? "" : ", ") + name;
      throw Error("pass '{}': unknown option '{}' (known: {})", pass_, key, known);
    }
    if (!same_kind(value, values_[key])) {
      throw Error("pass '{}': option '{}' is {}, expected something like {}", pass_, key, value.dump(),
                  values_[key].dump());
    }
    values_[key] = value;
  }
}

}  // namespace tessera
