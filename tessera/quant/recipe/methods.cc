// The built-in methods: the recipe files that CMake has compiled in.
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>
#include <string_view>

#include "tessera/base/error.h"
#include "tessera/quant/recipe/built_in_recipes.h"
#include "tessera/quant/recipe/recipe.h"

namespace tessera {

const std::vector<Recipe>& methods() {
  static const std::vector<Recipe> all = [] {
    std::vector<Recipe> recipes;
    for (std::string_view text : built_in_recipes()) {
      recipes.push_back(Recipe::from_json(nlohmann::json::parse(text), "built-in recipe"));
    }
    std::ranges::sort(recipes, {}, &Recipe::name);
    return recipes;
  }();
  return all;
}

const Recipe& find_method(const std::string& name) {
  std::vector<std::string> names;
  for (const Recipe& recipe : methods()) {
    if (recipe.name == name) return recipe;
    names.push_back(recipe.name);
  }
  throw Error("method '{}' is not known (known: {}; a -g128 behind it asks for groups)", name,
              fmt::join(names, ", "));
}

namespace {

/// "NAME" or "NAME-gG".
Recipe grouped_recipe(const std::string& name) {
  const size_t suffix = name.rfind("-g");
  const std::string size = suffix == std::string::npos ? "" : name.substr(suffix + 2);
  const bool grouped =
      !size.empty() && size.size() <= 4 && size.find_first_not_of("0123456789") == std::string::npos;
  return grouped ? find_method(name.substr(0, suffix)).with_weight(4, std::stoll(size)) : find_method(name);
}

}  // namespace

Recipe method_recipe(const std::string& name) {
  std::istringstream parts(name);
  std::string part;
  std::getline(parts, part, '+');
  const Recipe named = grouped_recipe(part);
  std::vector<std::string> settings;
  while (std::getline(parts, part, '+')) settings.push_back(part);
  Recipe recipe = named.with_settings(std::move(settings));
  recipe.name = name;
  return recipe;
}

}  // namespace tessera
