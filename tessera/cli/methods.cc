// tessera methods: what quantize offers.
#include <fmt/format.h>

#include "tessera/cli/command.h"
#include "tessera/quant/recipe.h"
#include "tessera/quant/scheme.h"

namespace tessera {
namespace {

void run(const GlobalOptions& global) {
  if (global.json) {
    nlohmann::json out = nlohmann::json::array();
    for (const Method& m : methods()) {
      out.push_back(
          {{"name", m.name}, {"summary", m.summary}, {"source", m.source}, {"recipe", m.recipe.to_json()}});
    }
    fmt::print("{}\n", out.dump(2));
    return;
  }
  Table table({"method", "what it does", "source", "passes"});
  for (const Method& m : methods()) {
    std::string passes;
    for (const auto& step : m.recipe.passes)
      passes += (passes.empty() ? "" : " + ") + step["pass"].get<std::string>();
    table.add({m.name, m.summary, m.source.empty() ? "-" : m.source, passes});
  }
  fmt::print("{}\nPasses that a recipe file can combine, with their options and defaults:\n", table.text());
  for (const PassInfo& pass : known_passes()) {
    fmt::print("  {:8} {}\n           {}\n", pass.name, pass.summary, pass.defaults.dump());
  }
}

}  // namespace

void add_methods(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = app.add_subcommand("methods", "List the quantization methods and passes");
  command->callback([&global] { run(global); });
}

}  // namespace tessera
