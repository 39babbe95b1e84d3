// The built-in methods.
#include <fmt/ranges.h>

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
  throw Error("method '{}' is not known (known: {})", name, fmt::join(names, ", "));
}

}  // namespace tessera
