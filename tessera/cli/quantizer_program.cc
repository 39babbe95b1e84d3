// Finding tessera-quantize, and starting it as a replacement of this process or as a child.
#include "tessera/cli/quantizer_program.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "tessera/base/error.h"
#include "tessera/cli/commands.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "tessera-quantize";
constexpr int kCannotStart = 127;  ///< exit status of a child that could not become the quantizer

fs::path own_folder() {
  return fs::read_symlink("/proc/self/exe").parent_path();
}

fs::path require_quantizer() {
  fs::path program = find_quantizer();
  if (program.empty()) throw Error("{}", quantizer_advice());
  return program;
}

/// Pointers into `arguments`, as exec wants them.
std::vector<char*> exec_arguments(std::vector<std::string>& arguments) {
  std::vector<char*> out;
  out.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) out.push_back(argument.data());
  out.push_back(nullptr);
  return out;
}

/// Starts `program` with its stdout in a pipe, of which `output` becomes the end to read. It dies when we
/// die, even of a SIGKILL; that is why posix_spawn, which cannot arrange this, does not serve.
pid_t start(const fs::path& program, std::vector<std::string> arguments, int& output) {
  const std::vector<char*> argv = exec_arguments(arguments);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw Error("cannot start {}: {}", program.string(), std::strerror(errno));
  const pid_t self = getpid(), child = fork();
  if (child < 0) throw Error("cannot start {}: {}", program.string(), std::strerror(errno));
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == self && dup2(ends[1], STDOUT_FILENO) >= 0) execv(program.c_str(), argv.data());
    _exit(kCannotStart);
  }
  close(ends[1]);
  output = ends[0];
  return child;
}

std::string read_all(int file) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t count = read(file, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    text.append(buffer, static_cast<size_t>(count));
  }
  close(file);
  return text;
}

int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

/// Ends this process in the way that a child with this status ended.
[[noreturn]] void end_like(int status) {
  if (WIFSIGNALED(status)) {
    std::signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
  }
  std::exit(WIFEXITED(status) ? WEXITSTATUS(status) : 2);
}

}  // namespace

fs::path find_quantizer() {
  const char* path = std::getenv("PATH");
  std::istringstream folders(own_folder().string() + ":" + (path ? path : ""));
  for (std::string folder; std::getline(folders, folder, ':');) {
    fs::path program = fs::path(folder) / kName;
    if (fs::is_regular_file(program) && access(program.c_str(), X_OK) == 0) return program;
  }
  return {};
}

std::string quantizer_advice() {
  return fmt::format(
      "the program {}, which quantizes, is neither in {} nor in PATH; build it where libtorch is installed "
      "(./dev build) and put it there",
      kName, own_folder().string());
}

void become_quantizer(char** argv) {
  const fs::path program = require_quantizer();
  execv(program.c_str(), argv);
  throw Error("cannot start {}: {}", program.string(), std::strerror(errno));
}

nlohmann::json ask_quantizer(const std::vector<std::string>& arguments, const GlobalOptions& global) {
  const fs::path program = require_quantizer();
  std::vector<std::string> all{program.string(), "--json"};
  if (global.quiet) all.push_back("--quiet");
  if (global.threads > 0) all.push_back("--threads=" + std::to_string(global.threads));
  all.insert(all.end(), arguments.begin(), arguments.end());
  int output = -1;
  const pid_t child = start(program, all, output);
  const std::string answer = read_all(output);
  const int status = wait_for(child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kCannotStart) {
    throw Error("cannot start {}; is it a program for this machine?", program.string());
  }
  if (status != 0) end_like(status);
  return nlohmann::json::parse(answer);
}

void add_quantizer_commands(CLI::App& app, char** argv) {
  // As soon as the name is read the other program takes over and parses the rest, --help included.
  const auto hand_over = [argv](size_t) { become_quantizer(argv); };
  add_command(app, "quantize", "Quantize a Hugging Face checkpoint")->preparse_callback(hand_over);
  add_command(app, "methods", "List the quantization methods and passes")->preparse_callback(hand_over);
}

}  // namespace tessera
