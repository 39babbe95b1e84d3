// Parses, calls a command, and turns an Error into one line and exit status 2.
#include "tessera/program/program.h"

#include <cstdio>
#include <new>
#include <system_error>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/program/output.h"

namespace tessera {
namespace {

void parse_and_run(int argc, char** argv, const std::string& description,
                   const std::vector<AddCommand>& commands) {
  GlobalOptions global;
  // Both programs go by this name: the user types "tessera quantize", whichever of them answers.
  CLI::App app{description, "tessera"};
  app.set_version_flag("--version", "tessera " TESSERA_VERSION);
  app.add_flag("--json", global.json, "Results as JSON on stdout");
  app.add_flag("-q,--quiet", global.quiet, "No progress on stderr");
  app.add_option("--threads", global.threads, "Threads (default: all cores)")->check(CLI::Range(1, 1024));
  app.require_subcommand(1);
  app.fallthrough();
  app.parse_complete_callback([&] {
    if (global.threads > 0) set_thread_count(global.threads);
  });
  for (const AddCommand& add : commands) add(app, global);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0) throw Error("{}; --help shows what is expected", e.what());
    app.exit(e);  // prints what --help or --version asks for
  }
  flush_output();
}

}  // namespace

CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& description) {
  return app.add_subcommand(name, description);
}

int run_program(int argc, char** argv, const std::string& description,
                const std::vector<AddCommand>& commands) {
  prepare_output();
  try {
    parse_and_run(argc, argv, description, commands);
    return 0;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "tessera: out of memory\n");
  } catch (const std::system_error& e) {  // a reader such as head, that has seen enough, hears nothing more
    if (e.code() != std::errc::broken_pipe) std::fprintf(stderr, "tessera: %s\n", e.what());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tessera: %s\n", e.what());
  }
  return 2;
}

}  // namespace tessera
