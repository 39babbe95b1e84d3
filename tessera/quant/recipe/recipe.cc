// Recipes from JSON and back, strictly, and their formats matched with a model.
#include "tessera/quant/recipe/recipe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "tessera/base/error.h"
#include "tessera/base/json_node.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr int64_t kGroupSizes[] = {128, 64, 32};
/// What PASS=... takes.
constexpr const char *kOn = "on", *kOff = "off";
/// Behind the key of an override: for models that have such a linear.
constexpr char kWhereThereIsOne = '?';

/// Throws Error for formats that QuantizedLinear does not have. Which group sizes there are is for the model
/// to say (check_group_sizes).
void check_weight(const WeightScheme& weight, const std::string& where) {
  if (weight.bits < 4 || weight.bits > 8) throw Error("{}: {} weight bits; 4 to 8 exist", where, weight.bits);
  if (weight.bits != 4 && weight.group_size != 0) {
    throw Error("{}: {}-bit weights have one scale an output; set group_size to 0", where, weight.bits);
  }
  if (weight.bits == 8 && !weight.symmetric) {
    throw Error("{}: 8-bit weights have no zero points; set symmetric to true", where);
  }
}

KvFormat kv_format_from_json(const JsonNode& bits) {
  return kv_format_of_bits(bits.get<int>(), bits.where());
}

bool lm_head_from_json(const JsonNode& node) {
  return node.choice<bool>({{"float", false}, {"w8a8", true}});
}

WeightScheme weight_from_json(const JsonNode& node) {
  node.expect_keys({"bits", "group_size", "symmetric"});
  WeightScheme weight;
  weight.bits = node["bits"].get_or(weight.bits);
  weight.group_size = node["group_size"].get_or(weight.group_size);
  weight.symmetric = node["symmetric"].get_or(weight.symmetric);
  check_weight(weight, node.where());
  return weight;
}

json weight_to_json(const WeightScheme& weight) {
  return {{"bits", weight.bits}, {"group_size", weight.group_size}, {"symmetric", weight.symmetric}};
}

/// Replaces what `node` names; other parts of `scheme` stay.
void apply_scheme(const JsonNode& node, LinearScheme& scheme) {
  const JsonNode weight = node["weight"], activation = node["activation"];
  if (!weight.is_null()) scheme.weight = weight_from_json(weight);
  if (!activation.is_null()) scheme.activation = activation_format_from_json(activation);
}

/// JSON, or a string as it stands.
json json_or_text(const std::string& text) {
  try {
    return parse_json(text, "");
  } catch (const Error&) {
    return text;
  }
}

/// Steps named `pass` get option `key`. Without a key they are dropped, or `on` puts one behind the others.
json change_passes(const json& passes, const std::string& pass, const std::string& key, const json& value) {
  json changed = json::array();
  if (key.empty() && value == kOn) {
    const bool there = std::ranges::any_of(passes, [&](const json& step) { return step["pass"] == pass; });
    changed = passes;
    if (!there) changed.push_back({{"pass", pass}});
    return changed;
  }
  for (json step : passes) {
    const bool named = step["pass"] == pass;
    if (named && key.empty()) continue;
    if (named) step[key] = value;
    changed.push_back(std::move(step));
  }
  return changed;
}

void check_passes(const JsonNode& passes) {
  if (passes.items().empty()) passes.fail("expected at least one pass");
  for (const JsonNode& step : passes.items()) {
    if (!step["pass"].is_string())
      step.fail("{} has no name; write {{\"pass\": NAME, option: value}}", step.shown());
  }
}

/// The group sizes that divide the inputs of every linear of `spec` whose weights have groups.
std::vector<int64_t> legal_group_sizes(const ModelSpec& spec, const PerLinear<LinearScheme>& schemes) {
  std::vector<int64_t> legal;
  std::ranges::copy_if(kGroupSizes, std::back_inserter(legal), [&](int64_t size) {
    return std::ranges::all_of(spec.linear_ids(), [&](LinearId id) {
      return schemes[id].weight.group_size == 0 || spec.linears[id].k % size == 0;
    });
  });
  legal.push_back(0);
  return legal;
}

void check_group_sizes(const std::string& recipe, const ModelSpec& spec,
                       const PerLinear<LinearScheme>& schemes) {
  for (LinearId id : spec.linear_ids()) {
    const int64_t size = schemes[id].weight.group_size, inputs = spec.linears[id].k;
    const bool known = size == 0 || std::ranges::find(kGroupSizes, size) != std::end(kGroupSizes);
    if (known && (size == 0 || inputs % size == 0)) continue;
    const std::string reason =
        known ? fmt::format("does not divide the {} inputs of {}", inputs, spec.linears[id].name)
              : "does not exist";
    throw Error(
        "recipe {}: group size {} {}; legal for every layer of this model: {} (0: one scale an output)",
        recipe, size, reason, fmt::join(legal_group_sizes(spec, schemes), ", "));
  }
}

}  // namespace

std::string to_string(const LinearScheme& scheme) {
  std::string text = fmt::format("W{}A{}", scheme.weight.bits, scheme.activation.bits);
  if (scheme.weight.group_size > 0) text += fmt::format(" g{}", scheme.weight.group_size);
  if (!scheme.weight.symmetric) text += " zero points";
  if (!scheme.activation.per_token) text += ", static scales";
  if (!scheme.activation.symmetric) text += ", asymmetric";
  return text;
}

json Recipe::to_json() const {
  return {{"name", name},
          {"weight", weight_to_json(scheme.weight)},
          {"activation", tessera::to_json(scheme.activation)},
          {"overrides", overrides},
          {"passes", passes},
          {"kv_bits", kv_bits(kv_format)},
          {"lm_head", lm_head_w8a8 ? "w8a8" : "float"}};
}

Recipe Recipe::from_json(const json& value, const std::string& where) {
  const JsonNode root(value, where);
  root.expect_keys({"name", "summary", "source", "cost", "weight", "activation", "overrides", "passes",
                    "kv_bits", "lm_head"});
  Recipe recipe;
  recipe.name = root["name"].string();
  recipe.summary = root["summary"].get_or<std::string>("");
  recipe.source = root["source"].get_or<std::string>("");
  recipe.cost = root["cost"].get_or<std::string>("");
  apply_scheme(root, recipe.scheme);
  if (const JsonNode overrides = root["overrides"]; !overrides.is_null()) {
    recipe.overrides = overrides.value();
    for (const auto& [component, change] : overrides.members()) {
      change.expect_keys({"weight", "activation"});
      LinearScheme checked;
      apply_scheme(change, checked);
    }
  }
  check_passes(root["passes"]);
  recipe.passes = root["passes"].value();
  if (const JsonNode bits = root["kv_bits"]; !bits.is_null()) recipe.kv_format = kv_format_from_json(bits);
  if (const JsonNode head = root["lm_head"]; !head.is_null()) recipe.lm_head_w8a8 = lm_head_from_json(head);
  return recipe;
}

Recipe Recipe::load(const std::filesystem::path& file) {
  return from_json(read_json(file), file.string());
}

Recipe Recipe::with_weight(int bits, int64_t group_size) const {
  Recipe recipe = *this;
  recipe.scheme.weight.bits = bits;
  recipe.scheme.weight.group_size = group_size;
  if (bits == 8) recipe.scheme.weight.symmetric = true;
  check_weight(recipe.scheme.weight, "recipe " + name);
  return recipe;
}

Recipe Recipe::with_legal_groups(const ModelSpec& spec) const {
  PerLinear<LinearScheme> result(spec.linears.size());
  for (LinearId id : spec.linear_ids()) result[id] = scheme_of(last_component(spec.linears[id].name));
  const std::vector<int64_t> legal = legal_group_sizes(spec, result);
  Recipe recipe = *this;
  int64_t& size = recipe.scheme.weight.group_size;
  if (std::ranges::find(legal, size) == legal.end()) size = legal.front();
  return recipe;
}

Recipe Recipe::with_setting(const std::string& change) const {
  const std::string place = fmt::format("setting '{}'", change);
  const size_t equals = change.find('='), dot = change.substr(0, equals).find('.');
  const std::string where = change.substr(0, std::min(dot, equals)),
                    key = dot == std::string::npos ? "" : change.substr(dot + 1, equals - dot - 1),
                    text = equals == std::string::npos ? "" : change.substr(equals + 1);
  const bool of_model = where == "kv_bits" || where == "lm_head";
  if (where.empty() || text.empty() || (key.empty() && text != kOn && text != kOff && !of_model)) {
    throw Error(
        "{}: write weight.KEY=VALUE, activation.KEY=VALUE, PASS.OPTION=VALUE, PASS=off, PASS=on, "
        "kv_bits=BITS or lm_head=w8a8|float",
        place);
  }
  const json value = json_or_text(text);

  Recipe recipe = *this;
  if (where == "kv_bits") {
    recipe.kv_format = kv_format_from_json({value, place});
  } else if (where == "lm_head") {
    recipe.lm_head_w8a8 = lm_head_from_json({value, place});
  } else if (where == "weight" || where == "activation") {
    json formats = to_json();
    formats[where][key] = value;
    apply_scheme({formats, place}, recipe.scheme);
  } else {
    recipe.passes = change_passes(passes, where, key, value);
    if (recipe.passes == passes) {
      throw Error("{}: changes nothing; the recipe's passes are {}", place, passes.dump());
    }
    check_passes({recipe.passes, place});
  }
  return recipe;
}

Recipe Recipe::with_settings(std::vector<std::string> changes) const {
  std::stable_partition(changes.begin(), changes.end(),
                        [](const std::string& change) { return change.ends_with("=on"); });
  Recipe recipe = *this;
  for (const std::string& change : changes) recipe = recipe.with_setting(change);
  return recipe;
}

LinearScheme Recipe::scheme_of(const std::string& component) const {
  LinearScheme result = scheme;
  for (const std::string& key : {component, component + kWhereThereIsOne}) {
    if (overrides.contains(key)) apply_scheme({overrides[key], "recipe " + name}, result);
  }
  return result;
}

PerLinear<LinearScheme> Recipe::schemes(const ModelSpec& spec) const {
  PerLinear<LinearScheme> result(spec.linears.size());
  std::set<std::string> components;
  for (LinearId id : spec.linear_ids()) {
    const std::string component = last_component(spec.linears[id].name);
    components.insert(component);
    result[id] = scheme_of(component);
  }
  for (const auto& [component, change] : overrides.items()) {
    if (components.contains(component) || component.ends_with(kWhereThereIsOne)) continue;
    throw Error("recipe {}: override '{}' matches no linear of this model (there are {})", name, component,
                fmt::join(components, ", "));
  }
  check_group_sizes(name, spec, result);
  for (const Site& site : spec.sites) {
    for (LinearId id : site.readers) {
      if (result[id].activation == result[site.readers[0]].activation) continue;
      throw Error("recipe {}: {} and {} share their input, so its format must be the same", name,
                  spec.linears[site.readers[0]].name, spec.linears[id].name);
    }
  }
  return result;
}

}  // namespace tessera
