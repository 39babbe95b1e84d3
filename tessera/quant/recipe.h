// A recipe names the target formats and the passes of a quantization run; the built-in methods are recipes.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/arch/model_spec.h"
#include "tessera/quant/scheme.h"

namespace tessera {

class Pass;

/// {
///   "name": "qqq-g128",
///   "weight": {"bits": 4, "group_size": 128},
///   "activation": {"bits": 8, "symmetric": true, "scale": "per_token"},
///   "overrides": {"down_proj": {"weight": {"bits": 8}}},          optional, by the last component of a
///   linear's name "passes": [{"pass": "smooth"}, {"pass": "gptq", "act_order": true}]
/// }
struct Recipe {
  std::string name;
  LinearScheme scheme;
  nlohmann::json overrides = nlohmann::json::object();
  nlohmann::json passes = nlohmann::json::array();

  nlohmann::json to_json() const;
  /// Throws Error naming `where` and the unknown or malformed key.
  static Recipe from_json(const nlohmann::json& json, const std::string& where);
  static Recipe load(const std::filesystem::path& file);

  /// The formats of a linear of `spec`; throws Error when a group size does not divide K.
  LinearScheme scheme_of(const ModelSpec& spec, LinearId id) const;
  std::vector<std::unique_ptr<Pass>> make_passes() const;
};

/// A named recipe with its description.
struct Method {
  std::string name, summary, source;
  Recipe recipe;
};

/// "rtn", "qqq", "qqq-rotation", ... group_size and bits are set afterwards by the command line.
const std::vector<Method>& methods();
/// Throws Error listing the known names.
const Method& find_method(const std::string& name);

}  // namespace tessera
