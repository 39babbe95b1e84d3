// Recipes from JSON and back, strictly, and their formats matched with a model.
#include "tessera/quant/recipe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <regex>
#include <set>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr int64_t kGroupSizes[] = {128, 64, 32};
/// Behind the key of an override: for models that have such a linear.
constexpr char kWhereThereIsOne = '?';

void expect_keys(const json& object, const std::set<std::string>& known, const std::string& where) {
  if (!object.is_object()) throw Error("{}: not a JSON object", where);
  for (const auto& [key, value] : object.items()) {
    if (!known.contains(key))
      throw Error("{}: unknown key '{}' (known: {})", where, key, fmt::join(known, ", "));
  }
}

/// Throws Error for formats that QuantizedLinear does not have. Which group sizes there are is for the model
/// to say (check_group_sizes).
void check_weight(const WeightScheme& weight, const std::string& where) {
  if (weight.bits < 4 || weight.bits > 8) throw Error("{}: {} weight bits; 4 to 8 exist", where, weight.bits);
  if (weight.bits != 4 && weight.group_size != 0) {
    throw Error("{}: {}-bit weights have one scale a row; set group_size to 0", where, weight.bits);
  }
  if (weight.bits == 8 && !weight.symmetric) {
    throw Error("{}: 8-bit weights have no zero points; set symmetric to true", where);
  }
}

int64_t integer(const json& value, const std::string& where, const char* key) {
  if (!value.is_number_integer()) throw Error("{}: '{}' is not an integer", where, key);
  return value.get<int64_t>();
}

KvFormat kv_format_from_json(const json& bits, const std::string& where) {
  return kv_format_of_bits(static_cast<int>(std::clamp<int64_t>(integer(bits, where, "kv_bits"), 0, 99)),
                           where);
}

WeightScheme weight_from_json(const json& value, const std::string& where) {
  expect_keys(value, {"bits", "group_size", "symmetric"}, where);
  WeightScheme weight;
  if (value.contains("bits")) {
    weight.bits = static_cast<int>(std::clamp<int64_t>(integer(value["bits"], where, "bits"), 0, 99));
  }
  if (value.contains("group_size")) weight.group_size = integer(value["group_size"], where, "group_size");
  if (value.contains("symmetric")) {
    if (!value["symmetric"].is_boolean()) throw Error("{}: 'symmetric' is not true or false", where);
    weight.symmetric = value["symmetric"].get<bool>();
  }
  check_weight(weight, where);
  return weight;
}

json weight_to_json(const WeightScheme& weight) {
  return {{"bits", weight.bits}, {"group_size", weight.group_size}, {"symmetric", weight.symmetric}};
}

/// Replaces what `value` names; other parts of `scheme` stay.
void apply_scheme(const json& value, const std::string& where, LinearScheme& scheme) {
  if (value.contains("weight")) scheme.weight = weight_from_json(value["weight"], where + ": weight");
  if (value.contains("activation")) {
    scheme.activation = activation_format_from_json(value["activation"], where);
  }
}

/// Steps named `pass` get option `key`, or are dropped when there is no key.
json change_passes(const json& passes, const std::string& pass, const std::string& key, const json& value) {
  json changed = json::array();
  for (json step : passes) {
    const bool named = step["pass"] == pass;
    if (named && key.empty()) continue;
    if (named) step[key] = value;
    changed.push_back(std::move(step));
  }
  return changed;
}

void check_passes(const json& passes, const std::string& where) {
  if (!passes.is_array() || passes.empty()) throw Error("{}: 'passes' is not a list with entries", where);
  for (const json& step : passes) {
    if (!step.is_object() || !step.contains("pass") || !step["pass"].is_string()) {
      throw Error("{}: pass {} has no name; write {{\"pass\": NAME, option: value}}", where, step.dump());
    }
  }
}

/// An optional text of the recipe.
std::string text_of(const json& recipe, const std::string& key, const std::string& where) {
  if (!recipe.contains(key)) return "";
  if (!recipe[key].is_string()) throw Error("{}: '{}' is not a string", where, key);
  return recipe[key].get<std::string>();
}

/// The group sizes that divide the inputs of every linear of `spec` whose weights have groups.
std::vector<int64_t> legal_group_sizes(const ModelSpec& spec,
                                       const std::array<LinearScheme, kLinearCount>& schemes) {
  std::vector<int64_t> legal;
  std::ranges::copy_if(kGroupSizes, std::back_inserter(legal), [&](int64_t size) {
    return std::ranges::all_of(spec.existing_linears(), [&](LinearId id) {
      return schemes[id].weight.group_size == 0 || spec.linears[id].k % size == 0;
    });
  });
  legal.push_back(0);
  return legal;
}

void check_group_sizes(const std::string& recipe, const ModelSpec& spec,
                       const std::array<LinearScheme, kLinearCount>& schemes) {
  for (LinearId id : spec.existing_linears()) {
    const int64_t size = schemes[id].weight.group_size, inputs = spec.linears[id].k;
    const bool known = size == 0 || std::ranges::find(kGroupSizes, size) != std::end(kGroupSizes);
    if (known && (size == 0 || inputs % size == 0)) continue;
    const std::string reason =
        known ? fmt::format("does not divide the {} inputs of {}", inputs, spec.linears[id].name)
              : "does not exist";
    throw Error("recipe {}: group size {} {}; legal for every layer of this model: {} (0: one scale a row)",
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
          {"kv_bits", kv_bits(kv_format)}};
}

Recipe Recipe::from_json(const json& value, const std::string& where) {
  expect_keys(value,
              {"name", "summary", "source", "cost", "weight", "activation", "overrides", "passes", "kv_bits"},
              where);
  Recipe recipe;
  recipe.name = text_of(value, "name", where);
  if (recipe.name.empty()) throw Error("{}: the recipe has no 'name'", where);
  recipe.summary = text_of(value, "summary", where);
  recipe.source = text_of(value, "source", where);
  recipe.cost = text_of(value, "cost", where);
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
  if (value.contains("kv_bits")) recipe.kv_format = kv_format_from_json(value["kv_bits"], where);
  return recipe;
}

Recipe Recipe::load(const std::filesystem::path& file) {
  const json value = json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) throw Error("{}: not valid JSON", file.string());
  return from_json(value, file.string());
}

Recipe Recipe::with_weight(int bits, int64_t group_size) const {
  Recipe recipe = *this;
  recipe.scheme.weight.bits = bits;
  recipe.scheme.weight.group_size = group_size;
  check_weight(recipe.scheme.weight, "recipe " + name);
  return recipe;
}

Recipe Recipe::with_setting(const std::string& change) const {
  static const std::regex form(R"((\w+)(?:\.(\w+))?=(.+))");
  const std::string place = fmt::format("setting '{}'", change);
  std::smatch match;
  if (!std::regex_match(change, match, form) ||
      (!match[2].matched && match[3] != "off" && match[1] != "kv_bits")) {
    throw Error(
        "{}: write weight.KEY=VALUE, activation.KEY=VALUE, PASS.OPTION=VALUE, PASS=off or kv_bits=BITS",
        place);
  }
  const std::string where = match[1], key = match[2], text = match[3];
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) value = text;

  Recipe recipe = *this;
  if (where == "kv_bits") {
    recipe.kv_format = kv_format_from_json(value, place);
  } else if (where == "weight" || where == "activation") {
    json formats = to_json();
    formats[where][key] = value;
    apply_scheme(formats, place, recipe.scheme);
  } else {
    recipe.passes = change_passes(passes, where, key, value);
    if (recipe.passes == passes) {
      throw Error("{}: changes nothing; the recipe's passes are {}", place, passes.dump());
    }
    check_passes(recipe.passes, place);
  }
  return recipe;
}

LinearScheme Recipe::scheme_of(const std::string& component) const {
  LinearScheme result = scheme;
  for (const std::string& key : {component, component + kWhereThereIsOne}) {
    if (overrides.contains(key)) apply_scheme(overrides[key], "recipe " + name, result);
  }
  return result;
}

std::array<LinearScheme, kLinearCount> Recipe::schemes(const ModelSpec& spec) const {
  std::array<LinearScheme, kLinearCount> result;
  std::set<std::string> components;
  for (LinearId id : spec.existing_linears()) {
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

std::string last_component(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

}  // namespace tessera
