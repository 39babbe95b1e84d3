// Recipes, with a setting behind them that is the input, too.
#include "hostile_input.h"
#include "tessera/quant/recipe/recipe.h"

void tessera::read_hostile_input(std::string_view input) {
  const size_t line = std::min(input.find('\n'), input.size());
  try {
    method_recipe("qqq").with_setting(std::string(input.substr(0, line)));
  } catch (const Error&) {
  }
  const Recipe recipe = Recipe::from_json(parse_json(input, "recipe.json"), "recipe.json");
  Recipe::from_json(recipe.to_json(), "recipe.json");
}
