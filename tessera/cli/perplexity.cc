// tessera perplexity: how well models predict a text.
#include <fmt/format.h>

#include "tessera/cli/commands.h"
#include "tessera/program/evaluation.h"
#include "tessera/program/terminal.h"

namespace tessera {

void add_perplexity(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = add_command(app, "perplexity", "Measure the perplexity of models on a text");
  struct Options {
    std::vector<std::string> dirs;
    TextOptions text;
  };
  auto o = std::make_shared<Options>();
  command->footer(
      "Example:\n  tessera perplexity llama-qqq --text wiki.test.txt\n"
      "Numbers of different protocols, windows or tokenizers must not be compared.");
  command->add_option("models", o->dirs, "Model folders or GGUF files")->required();
  o->text.add_to(*command);
  command->callback([o, &global] {
    TerminalReporter reporter(global.quiet);
    const nlohmann::json out = evaluate_perplexity(o->dirs, o->text, global, reporter);
    if (global.json) fmt::print("{}\n", json_text(out, 2));
  });
}

}  // namespace tessera
