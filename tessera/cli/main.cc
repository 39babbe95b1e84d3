// tessera: the command line. Parses, calls a command, and turns an Error into one line and exit status 2.
#include <cblas.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/cli/command.h"

namespace tessera {
namespace {

/// OpenBLAS does not know processors younger than itself and then takes its AVX2 kernels, at half speed, on
/// machines with AVX-512. It reads its choice from the environment when the program is loaded, so we start
/// once more with it set.
void use_avx512_blas(char** argv) {
  constexpr const char* kVariable = "OPENBLAS_CORETYPE";
  const char* chosen = openblas_get_corename();
  const bool avx2_kernels = std::strcmp(chosen, "Haswell") == 0 || std::strcmp(chosen, "Zen") == 0;
  if (!cpu_info().avx512 || !avx2_kernels || std::getenv(kVariable)) return;
  setenv(kVariable, "SkylakeX", 1);
  execv("/proc/self/exe", argv);  // returns only when it fails; then we go on with the slower kernels
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
  for (auto* add : {add_quantize, add_methods, add_perplexity, add_compare, add_generate, add_inspect,
                    add_bench, add_demo}) {
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
  tessera::use_avx512_blas(argv);
  try {
    return tessera::run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "tessera: out of memory\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tessera: %s\n", e.what());
  }
  return 2;
}
