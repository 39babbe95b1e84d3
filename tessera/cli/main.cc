// tessera: the command line. Everything that quantizes is in a second program (quantizer_program.h), so that
// this one is small and starts at once.
#include "tessera/cli/commands.h"
#include "tessera/program/restart.h"

/// Longer than the pauses between the layers of a token.
static constexpr int kSpins = 10000;

int main(int argc, char** argv) {
  using namespace tessera;
  restart_with(thread_settings(kSpins), argv);
  return run_program(
      argc, argv,
      "Tessera quantizes language models to 4-bit weights and 8-bit activations and runs them with integer "
      "kernels.\n"
      "Start with:  tessera quantize MODEL -o OUT   and   tessera generate OUT --prompt "
      "\"...\"\n",
      {[argv](CLI::App& app, const GlobalOptions&) { add_quantizer_commands(app, argv); }, add_perplexity,
       add_eval, add_compare, add_verify, add_generate, add_chat, add_serve, add_convert, add_inspect,
       add_bench, add_demo});
}
