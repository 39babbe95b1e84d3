// The built-in methods.
#include <fmt/ranges.h>

#include <regex>

#include "tessera/base/error.h"
#include "tessera/quant/recipe.h"

namespace tessera {
namespace {

using nlohmann::json;

Method method(std::string name, std::string summary, std::string source, json passes) {
  Recipe recipe{.name = name, .scheme = {}, .passes = std::move(passes)};
  return {std::move(name), std::move(summary), std::move(source), std::move(recipe)};
}

}  // namespace

const std::vector<Method>& methods() {
  static const std::vector<Method> all = {
      method("rtn", "round to nearest, uncalibrated: the baseline", "", json::array({{{"pass", "rtn"}}})),
      method("qqq", "adaptive smoothing of activation outliers, then GPTQ", "QQQ (arXiv 2406.09904)",
             json::array({{{"pass", "smooth"}}, {{"pass", "gptq"}}})),
      method("qqq-rotation", "Hadamard rotation, then GPTQ with clipping",
             "QQQ (arXiv 2406.09904), QuaRot (arXiv 2404.00456)",
             json::array({{{"pass", "rotate"}}, {{"pass", "gptq"}}})),
  };
  return all;
}

const Method& find_method(const std::string& name) {
  std::vector<std::string> names;
  for (const Method& m : methods()) {
    if (m.name == name) return m;
    names.push_back(m.name);
  }
  throw Error("method '{}' is not known (known: {}; a -g128 behind it asks for groups)", name,
              fmt::join(names, ", "));
}

Recipe method_recipe(const std::string& name) {
  static const std::regex kGrouped("(.+)-g([0-9]{1,4})");
  std::smatch match;
  if (!std::regex_match(name, match, kGrouped)) return find_method(name).recipe;
  const Recipe plain = find_method(match[1]).recipe;
  Recipe recipe = plain.with_weight(plain.scheme.weight.bits, std::stoll(match[2]));
  recipe.name = name;
  return recipe;
}

}  // namespace tessera
