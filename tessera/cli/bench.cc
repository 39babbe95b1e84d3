#include "tessera/cli/command.h"
namespace tessera {
void add_bench(CLI::App&, const GlobalOptions&) {}
}
