// tessera-quantize: everything that needs libtorch. Users start it through `tessera`.
#include "tessera/program/openblas_settings.h"
#include "tessera/program/restart.h"
#include "tessera/quant_cli/commands.h"

/// So few that two runs side by side take no longer than one after the other.
static constexpr int kSpins = 1000;

int main(int argc, char** argv) {
  using namespace tessera;
  std::vector<EnvironmentSetting> settings = thread_settings(kSpins);
  for (const EnvironmentSetting& s : openblas_settings()) settings.push_back(s);
  restart_with(settings, argv);
  return run_program(argc, argv, "The part of Tessera that quantizes; `tessera --help` shows the whole.\n",
                     {add_quantize, add_methods, add_each, add_simulate});
}
