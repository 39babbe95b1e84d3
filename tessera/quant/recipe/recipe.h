// A recipe names the target formats and the passes of a quantization run; the built-in methods are the recipe
// files of the folder recipes/, compiled in.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/arch/model_spec.h"
#include "tessera/format/quantization_config.h"
#include "tessera/quant/recipe/scheme.h"

namespace tessera {

/// {
///   "name": "qqq-g128",
///   "summary": "what it does", "source": "the paper", "cost": "what a run takes",
///   "weight": {"bits": 4, "group_size": 128, "symmetric": true},
///   "activation": {"bits": 8, "symmetric": true, "scale": "per_token"},
///   "overrides": {"down_proj": {"weight": {"bits": 8}}},
///   "kv_bits": 16,
///   "lm_head": "w8a8",
///   "passes": [{"pass": "smooth"}, {"pass": "gptq", "act_order": true}]
/// }
/// A weight or activation object stands for itself: keys that it leaves out have the defaults of WeightScheme
/// and ActivationFormat. "overrides" is optional; its keys are last components of the linears' names, with
/// a '?' behind those that a model need not have. So are "kv_bits", 32, 16, 8 or 4 bits of the cached keys
/// and values, "lm_head", which is "float" or "w8a8", rounded to nearest, and the three that describe.
struct Recipe {
  std::string name, summary, source, cost;
  LinearScheme scheme;
  nlohmann::json overrides = nlohmann::json::object();
  nlohmann::json passes = nlohmann::json::array();
  KvFormat kv_format = KvFormat::kF16;  ///< of the cache that the quantized stream reads, and the engine
  bool lm_head_w8a8 = false;  ///< lm_head in 8 bits, one scale an output; its inputs in 8, one a token

  /// Everything that computes; not the description.
  nlohmann::json to_json() const;
  /// Throws Error naming `where` and the unknown or malformed key. The passes' options are checked by
  /// make_pass.
  static Recipe from_json(const nlohmann::json& json, const std::string& where);
  static Recipe load(const std::filesystem::path& file);

  /// The same recipe with another default weight format; the overrides stay. 8-bit weights lose their zero
  /// points. Throws Error for formats that do not exist; schemes() judges the group size.
  Recipe with_weight(int bits, int64_t group_size) const;
  /// The same recipe with the largest group size that is legal for every layer of `spec`, where its own is
  /// not.
  Recipe with_legal_groups(const ModelSpec& spec) const;

  /// The same recipe with one change, "WHERE.KEY=VALUE", "kv_bits=BITS", "lm_head=w8a8|float", "PASS=off" or
  /// "PASS=on". WHERE is "weight", "activation" or a pass, of which every step gets the option; VALUE is
  /// JSON, or a string as it stands. PASS=off drops the pass's steps, PASS=on puts the pass behind the
  /// others. Throws Error for a pass that the recipe does not have, or a malformed change.
  Recipe with_setting(const std::string& change) const;
  /// The same with several changes, in any order: passes are put in before the others speak of them.
  Recipe with_settings(std::vector<std::string> changes) const;

  /// The formats of the linear whose name ends in `component`, such as "down_proj".
  LinearScheme scheme_of(const std::string& component) const;
  /// The formats of all linears of a block of `spec`. Throws Error when a group size does not divide K (with
  /// the sizes that do in every layer), when linears that share an input ask for different formats of it, or
  /// when an override matches no linear.
  PerLinear<LinearScheme> schemes(const ModelSpec& spec) const;
};

/// The built-in recipes, sorted by name.
const std::vector<Recipe>& methods();
/// The method of whoever names none: the most accurate one with 8-bit activations.
inline constexpr const char* kDefaultMethod = "best-w4a8";

/// Throws Error listing the known names.
const Recipe& find_method(const std::string& name);
/// A method's recipe, with changes as the name asks for them: "NAME-gG", such as "qqq-g128", is the method
/// with 4-bit weights in groups of G inputs, and "NAME+SETTING+SETTING", such as "quik+outliers.count=64",
/// has with_setting() applied. The recipe is named so.
Recipe method_recipe(const std::string& name);

}  // namespace tessera
