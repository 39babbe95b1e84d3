// tessera: the command line. Parses, calls a command, and turns an Error into one line and exit status 2.
#include <cblas.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/cli/command.h"

namespace tessera {
namespace {

/// Sets an environment variable that the user has left open. Returns whether it did.
bool set_default(const char* variable, const char* value) {
  return !std::getenv(variable) && setenv(variable, value, 1) == 0;
}

/// Two libraries read their settings from the environment while the program is loaded, so where one is
/// missing we set it and start once more. OpenBLAS does not know processors younger than itself and takes its
/// AVX2 kernels there, at half speed, where AVX-512 would do. libgomp lets idle threads spin for
/// milliseconds, which starves a busy machine.
void restart_with_settings(char** argv) {
  const std::string_view chosen = openblas_get_corename();
  bool changed = !std::getenv("OMP_WAIT_POLICY") && set_default("GOMP_SPINCOUNT", "10000");
  if (cpu_info().avx512 && (chosen == "Haswell" || chosen == "Zen"))
    changed |= set_default("OPENBLAS_CORETYPE", "SkylakeX");
  if (changed) execv("/proc/self/exe", argv);  // returns only when it fails; then we go on without
}

int run(int argc, char** argv) {
  GlobalOptions global;
  CLI::App app{
      "Tessera quantizes language models to 4-bit weights and 8-bit activations and runs them with integer "
      "kernels.\n"
      "Start with:  tessera quantize MODEL --method qqq -o OUT   and   tessera generate OUT --prompt "
      "\"...\"\n",
      "tessera"};
  app.set_version_flag("--version", "tessera " TESSERA_VERSION);
  app.add_flag("--json", global.json, "Results as JSON on stdout");
  app.add_flag("-q,--quiet", global.quiet, "No progress on stderr");
  app.add_option("--threads", global.threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  app.require_subcommand(1);
  app.fallthrough();
  app.parse_complete_callback([&] {
    if (global.threads > 0) set_thread_count(global.threads);
  });
  for (auto* add : {add_quantize, add_methods, add_perplexity, add_compare, add_verify, add_generate,
                    add_inspect, add_bench, add_demo}) {
    add(app, global);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    throw Error("{}; --help shows what is expected", e.what());
  }
  return 0;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  tessera::restart_with_settings(argv);
  try {
    return tessera::run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "tessera: out of memory\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tessera: %s\n", e.what());
  }
  return 2;
}
