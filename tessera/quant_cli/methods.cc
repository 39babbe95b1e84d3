// tessera methods: what quantize offers.
#include <fmt/ranges.h>

#include "tessera/quant/passes/pass_info.h"
#include "tessera/quant/recipe/recipe.h"
#include "tessera/quant/recipe/scheme.h"
#include "tessera/quant_cli/commands.h"

namespace tessera {
namespace {

std::string pass_names(const Recipe& recipe) {
  std::vector<std::string> names;
  for (const auto& step : recipe.passes) names.push_back(step["pass"].get<std::string>());
  return fmt::format("{}", fmt::join(names, " + "));
}

void run(const GlobalOptions& global) {
  if (global.json) {
    nlohmann::json out = nlohmann::json::array();
    for (const Recipe& m : methods()) {
      out.push_back({{"name", m.name},
                     {"summary", m.summary},
                     {"formats", to_string(m.scheme)},
                     {"cost", m.cost},
                     {"source", m.source},
                     {"recipe", m.to_json()}});
    }
    fmt::print("{}\n", json_text(out, 2));
    return;
  }
  fmt::print("Methods (-g128, -g64 or -g32 behind a name asks for groups of so many inputs):\n");
  for (const Recipe& m : methods()) {
    fmt::print("  {:16} {}: {}\n{:19}{}\n{:19}cost: {}{}\n", m.name, to_string(m.scheme), pass_names(m), "",
               m.summary, "", m.cost, m.source.empty() ? "" : "; " + m.source);
  }
  fmt::print("\nPasses that a recipe file can combine, with their options and defaults:\n");
  for (const PassInfo& pass : known_passes()) {
    fmt::print("  {:16} {}\n{:19}{}\n", pass.name, pass.summary, "", pass.defaults.dump());
  }
}

}  // namespace

void add_methods(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = add_command(app, "methods", "List the quantization methods and passes");
  command->footer("Example:\n  tessera methods --json");
  command->callback([&global] { run(global); });
}

}  // namespace tessera
