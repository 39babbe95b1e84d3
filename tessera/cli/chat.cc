// tessera chat: a conversation on the terminal.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tessera/cli/chat_partner.h"
#include "tessera/cli/commands.h"
#include "tessera/cli/interrupt.h"
#include "tessera/cli/sampling_options.h"
#include "tessera/program/loaded_model.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

struct Options {
  std::string model, system, template_file;
  GenerateOptions generate = {.sampling = {.temperature = 0.7f}, .max_tokens = 1024};
  KvOption kv = {};
  DeviceOption device = {};
};

constexpr const char* kHelp =
    "/reset  forget the conversation\n"
    "/exit   leave (Ctrl-D too)\n"
    "Ctrl-C  stop the answer\n"
    "A line that ends with \\ goes on in the next one.\n";

/// Reads lines of standard input.
class LineReader {
 public:
  LineReader() = default;
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader() { std::free(line_); }

  /// One line without its end. False at the end of the input, or when a signal came.
  bool read(std::string& line) {
    const ssize_t size = getline(&line_, &capacity_, stdin);
    if (size < 0) return false;
    line.assign(line_, static_cast<size_t>(size));
    while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
    return true;
  }

 private:
  char* line_ = nullptr;
  size_t capacity_ = 0;
};

class Chat {
 public:
  Chat(ChatPartner& partner, const Options& o, const GlobalOptions& global)
      : partner_(partner), options_(o.generate), system_(o.system), quiet_(global.quiet) {
    options_.interrupted = [this] { return interrupt_.pending(); };
    reset();
  }

  void run() {
    if (terminal_ && !quiet_) fmt::print(stderr, "{}; /help lists the commands\n", partner_.name());
    std::string message;
    while (read(message)) {
      if (message == "/exit" || message == "/quit") return;
      if (message == "/help") {
        fmt::print(stderr, "{}", kHelp);
      } else if (message == "/reset") {
        reset();
      } else if (message.starts_with('/')) {
        fmt::print(stderr, "{} is no command; /help lists them\n", message);
      } else if (!message.empty()) {
        say(message);
      }
    }
  }

 private:
  void reset() {
    messages_ = ChatPrompt::Json::array();
    if (!system_.empty()) messages_.push_back(chat_message("system", system_));
  }

  /// A message of one line, or of several that end with a backslash. False at the end of the input.
  bool read(std::string& message) {
    message.clear();
    const char* prompt = "> ";
    for (;;) {
      interrupt_.clear();
      if (terminal_) fmt::print(stderr, "{}", prompt);
      std::string line;
      if ((terminal_ && !interrupt_.wait_for(STDIN_FILENO)) || !lines_.read(line)) {
        if (terminal_) fmt::print(stderr, "\n");
        if (!interrupt_.pending()) return false;
        std::clearerr(stdin);
        message.clear();
        prompt = "> ";
        continue;
      }
      message += line;
      if (!message.ends_with('\\')) return true;
      message.back() = '\n';
      prompt = ". ";
    }
  }

  void say(const std::string& message) {
    messages_.push_back(chat_message("user", message));
    interrupt_.clear();
    try {
      const ChatAnswer answer = partner_.answer(messages_, options_, [](std::string_view piece) {
        std::fwrite(piece.data(), 1, piece.size(), stdout);
        std::fflush(stdout);
      });
      fmt::print("\n");
      std::fflush(stdout);
      messages_.push_back(chat_message("assistant", answer.text));
      if (!quiet_) fmt::print(stderr, "{}\n", remark(answer));
    } catch (const Error& error) {
      if (!terminal_) throw;  // a script must notice
      fmt::print(stderr, "{}\n", error.what());
      messages_.erase(messages_.size() - 1);
    }
  }

  static std::string remark(const ChatAnswer& answer) {
    const std::string rate =
        answer.tokens_per_second > 0 ? fmt::format(" at {:.0f}/s", answer.tokens_per_second) : "";
    return fmt::format("[{} tokens{}, ended by {}]", answer.tokens, rate, answer.ended_by);
  }

  ChatPartner& partner_;
  GenerateOptions options_;
  const std::string system_;
  const bool quiet_, terminal_ = isatty(STDIN_FILENO) != 0;
  Interrupt interrupt_;
  LineReader lines_;
  ChatPrompt::Json messages_;
};

void run(const Options& o, const GlobalOptions& global) {
  const bool is_url = o.model.find("://") != std::string::npos;
  if (is_url && (o.kv.bits != 0 || !o.template_file.empty()))
    throw Error("{}: --kv-bits and --template are for models of this process, not for a server", o.model);
  TerminalReporter reporter(global.quiet);
  const auto partner =
      is_url ? remote_partner(o.model) : local_partner(o.model, o.device, o.kv, o.template_file, reporter);
  Chat(*partner, o, global).run();
}

}  // namespace

void add_chat(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = add_command(app, "chat", "Talk with a chat model on the terminal");
  auto o = std::make_shared<Options>();
  command->footer(
      fmt::format("Examples:\n  tessera chat llama-chat-qqq\n  tessera chat http://127.0.0.1:8000\n"
                  "  tessera chat llama-chat-qqq --system \"Answer in French.\"\n\n{}",
                  kHelp));
  command
      ->add_option("model", o->model,
                   "Model folder or GGUF file, or the address of a server: http://HOST:PORT")
      ->required();
  command->add_option("--system", o->system, "A system message in front of the conversation");
  command->add_option("--template", o->template_file, "A Jinja template instead of the model's own");
  add_sampling_options(*command, o->generate);
  o->kv.add_to(*command);
  o->device.add_to(*command);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
