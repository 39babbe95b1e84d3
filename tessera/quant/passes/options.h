// Options of a pass: its defaults, overridden by the recipe's step.
#pragma once

#include "tessera/base/json_node.h"
#include "tessera/quant/passes/pass.h"
#include "tessera/quant/passes/pass_info.h"

namespace tessera {

class PassOptions {
 public:
  /// Throws Error naming the pass for an unknown option or a value of another type than the default's.
  PassOptions(const PassInfo& info, const nlohmann::json& step);

  JsonNode operator[](std::string_view key) const { return JsonNode(values_, place_)[key]; }

 private:
  std::string place_;
  nlohmann::json values_;
};

}  // namespace tessera
