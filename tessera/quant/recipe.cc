// Recipes from JSON and back, strictly, and their formats matched with a model.
#include "tessera/quant/recipe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr int64_t kGroupSizes[] = {128, 64, 32};

void expect_keys(const json& object, const std::set<std::string>& known, const std::string& where) {
  if (!object.is_object()) throw Error("{}: not a JSON object", where);
  for (const auto& [key, value] : object.items()) {
    if (!known.contains(key))
      throw Error("{}: unknown key '{}' (known: {})", where, key, fmt::join(known, ", "));
  }
}

/// Throws Error for formats that QuantizedLinear does not have.
void check_weight(const WeightScheme& weight, const std::string& where) {
  if (weight.bits != 4 && weight.bits != 8)
    throw Error("{}: {} weight bits; 4 and 8 exist", where, weight.bits);
  const bool known = std::ranges::find(kGroupSizes, weight.group_size) != std::end(kGroupSizes);
  if (weight.group_size != 0 && !known) {
    throw Error("{}: group size {}; 0 (one scale a row), {} exist", where, weight.group_size,
                fmt::join(kGroupSizes, ", "));
  }
  if (weight.bits == 8 && weight.group_size != 0) {
    throw Error("{}: 8-bit weights have one scale a row; set group_size to 0", where);
  }
}

int64_t integer(const json& value, const std::string& where, const char* key) {
  if (!value.is_number_integer()) throw Error("{}: '{}' is not an integer", where, key);
  return value.get<int64_t>();
}

WeightScheme weight_from_json(const json& value, const std::string& where) {
  expect_keys(value, {"bits", "group_size"}, where);
  WeightScheme weight;
  if (value.contains("bits")) {
    weight.bits = static_cast<int>(std::clamp<int64_t>(integer(value["bits"], where, "bits"), 0, 99));
  }
  if (value.contains("group_size")) weight.group_size = integer(value["group_size"], where, "group_size");
  check_weight(weight, where);
  return weight;
}

json weight_to_json(const WeightScheme& weight) {
  return {{"bits", weight.bits}, {"group_size", weight.group_size}};
}

/// Replaces what `value` names; other parts of `scheme` stay.
void apply_scheme(const json& value, const std::string& where, LinearScheme& scheme) {
  if (value.contains("weight")) scheme.weight = weight_from_json(value["weight"], where + ": weight");
  if (!value.contains("activation")) return;
  scheme.activation = activation_format_from_json(value["activation"], where);
  if (!scheme.activation.per_token) {
    throw Error("{}: no pass calibrates static activation scales; use per_token", where);
  }
}

void check_passes(const json& passes, const std::string& where) {
  if (!passes.is_array() || passes.empty()) throw Error("{}: 'passes' is not a list with entries", where);
  for (const json& step : passes) {
    if (!step.is_object() || !step.contains("pass") || !step["pass"].is_string()) {
      throw Error("{}: pass {} has no name; write {{\"pass\": NAME, option: value}}", where, step.dump());
    }
  }
}

void check_group_size(const WeightScheme& weight, const LinearSpec& linear, const std::string& recipe) {
  if (weight.group_size == 0 || linear.k % weight.group_size == 0) return;
  std::vector<int64_t> legal;
  std::ranges::copy_if(kGroupSizes, std::back_inserter(legal), [&](int64_t g) { return linear.k % g == 0; });
  legal.push_back(0);
  throw Error("recipe {}: group size {} does not divide the {} inputs of {}; legal: {} (0: one scale a row)",
              recipe, weight.group_size, linear.k, linear.name, fmt::join(legal, ", "));
}

}  // namespace

json Recipe::to_json() const {
  return {{"name", name},
          {"weight", weight_to_json(scheme.weight)},
          {"activation", tessera::to_json(scheme.activation)},
          {"overrides", overrides},
          {"passes", passes},
          {"kv_bits", kv_bits(kv_format)}};
}

Recipe Recipe::from_json(const json& value, const std::string& where) {
  expect_keys(value, {"name", "weight", "activation", "overrides", "passes", "kv_bits"}, where);
  Recipe recipe;
  if (!value.contains("name") || !value["name"].is_string()) throw Error("{}: 'name' is not a string", where);
  recipe.name = value["name"].get<std::string>();
  apply_scheme(value, where, recipe.scheme);
  if (value.contains("overrides")) {
    recipe.overrides = value["overrides"];
    if (!recipe.overrides.is_object()) throw Error("{}: 'overrides' is not a JSON object", where);
  }
  for (const auto& [component, change] : recipe.overrides.items()) {
    const std::string place = fmt::format("{}: overrides: {}", where, component);
    expect_keys(change, {"weight", "activation"}, place);
    LinearScheme checked;
    apply_scheme(change, place, checked);
  }
  if (value.contains("passes")) recipe.passes = value["passes"];
  check_passes(recipe.passes, where);
  if (value.contains("kv_bits")) {
    const int64_t bits = std::clamp<int64_t>(integer(value["kv_bits"], where, "kv_bits"), 0, 99);
    recipe.kv_format = kv_format_of_bits(static_cast<int>(bits), where);
  }
  return recipe;
}

Recipe Recipe::load(const std::filesystem::path& file) {
  const json value = json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) throw Error("{}: not valid JSON", file.string());
  return from_json(value, file.string());
}

Recipe Recipe::with_weight(int bits, int64_t group_size) const {
  Recipe recipe = *this;
  recipe.scheme.weight = {bits, group_size};
  check_weight(recipe.scheme.weight, "recipe " + name);
  return recipe;
}

LinearScheme Recipe::scheme_of(const std::string& component) const {
  LinearScheme result = scheme;
  if (overrides.contains(component)) apply_scheme(overrides[component], "recipe " + name, result);
  return result;
}

std::array<LinearScheme, kLinearCount> Recipe::schemes(const ModelSpec& spec) const {
  std::array<LinearScheme, kLinearCount> result;
  std::set<std::string> components;
  for (LinearId id : spec.existing_linears()) {
    const std::string component = last_component(spec.linears[id].name);
    components.insert(component);
    result[id] = scheme_of(component);
    check_group_size(result[id].weight, spec.linears[id], name);
  }
  for (const auto& [component, change] : overrides.items()) {
    if (components.contains(component)) continue;
    throw Error("recipe {}: override '{}' matches no linear of this model (there are {})", name, component,
                fmt::join(components, ", "));
  }
  for (const Site& site : spec.sites) {
    for (LinearId id : site.readers) {
      if (result[id].activation == result[site.readers[0]].activation) continue;
      throw Error("recipe {}: {} and {} share their input, so its format must be the same", name,
                  spec.linears[site.readers[0]].name, spec.linears[id].name);
    }
  }
  return result;
}

std::string last_component(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

}  // namespace tessera
