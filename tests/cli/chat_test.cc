// Chat on the command line: generate --chat, and tessera chat as scripts and terminals use it.
#include <poll.h>
#include <pty.h>

#include <csignal>

#include "tests/cli/cli_fixture.h"

namespace tessera {
namespace {

/// Runs with a copy of the bundled model and a template that strings the contents together.
class ChatCli : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    model_ = copy_model();
    template_ = dir_ / "plain.jinja";
    write_file(template_, "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}");
  }

  /// What the model writes after `prompt`, greedily.
  std::string continuation(const std::string& prompt) {
    const Outcome o =
        run(fmt::format("-q generate {} --prompt '{}' --max-tokens 8", model_.string(), prompt));
    EXPECT_EQ(o.status, 0) << o.err;
    return o.out;
  }

  Outcome chat(const std::string& lines, const std::string& more = "") {
    write_file(dir_ / "input", lines);
    return run(fmt::format("-q chat {} --temperature 0 --max-tokens 8 {}", model_.string(), more),
               dir_ / "input");
  }

  fs::path model_, template_;
};

TEST_F(ChatCli, SaysWhatToDoWithoutTemplate) {
  expect_refusal(fmt::format("chat {}", model_.string()),
                 {"no chat template", "chat_template.jinja", "--template FILE"});
  expect_refusal(fmt::format("generate {} --chat --prompt x", model_.string()),
                 {"no chat template", "--template FILE"});
  expect_refusal(fmt::format("generate {} --system x --prompt x", model_.string()), {"--chat"});
}

TEST_F(ChatCli, GenerateUsesTheTemplate) {
  const std::string command = fmt::format("-q generate {} --chat --max-tokens 8 ", model_.string());
  const Outcome given = run(fmt::format("{} --prompt 'The city' --template {}", command, template_.string()));
  EXPECT_EQ(given.status, 0) << given.err;
  EXPECT_EQ(given.out, continuation("The city"));
  fs::copy_file(template_, model_ / "chat_template.jinja");
  const Outcome own = run(command + "--prompt 'city' --system 'The '");
  EXPECT_EQ(own.status, 0) << own.err;
  EXPECT_EQ(own.out, continuation("The city"));
  write_file(model_ / "chat_template.jinja", "{{ raise_exception('Say something else') }}");
  expect_refusal(fmt::format("generate {} --chat --prompt x", model_.string()), {"Say something else"});
  write_file(model_ / "chat_template.jinja", "{{ messages[ }}");
  expect_refusal(fmt::format("chat {}", model_.string()), {"chat_template.jinja", "line 1, column 14"});
}

TEST_F(ChatCli, InspectShowsWhatTheTemplateWrites) {
  EXPECT_NE(run(fmt::format("inspect {}", model_.string())).out.find("chat template: none"),
            std::string::npos);
  write_file(model_ / "chat_template.jinja",
             "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}");
  const Outcome shown = run(fmt::format("inspect {}", model_.string()));
  EXPECT_NE(shown.out.find("<user>Hello<assistant>"), std::string::npos) << shown.out;
  write_file(model_ / "chat_template.jinja", "{% import 'x' as y %}");
  const Outcome broken = run(fmt::format("--json inspect {}", model_.string()));
  EXPECT_EQ(broken.status, 0) << broken.err;
  const std::string error = json::parse(broken.out)["chat_template"]["error"];
  EXPECT_NE(error.find("'import' is unknown"), std::string::npos) << error;
}

TEST_F(ChatCli, RemembersAndForgets) {
  fs::copy_file(template_, model_ / "chat_template.jinja");
  std::string first = continuation("The city");
  const Outcome o = chat("The city\n And then\n/reset\nThe city\n/exit\nnever read\n");
  ASSERT_EQ(o.status, 0) << o.err;
  ASSERT_TRUE(o.out.starts_with(first)) << o.out;
  ASSERT_TRUE(o.out.ends_with(first)) << o.out;
  const std::string second = o.out.substr(first.size(), o.out.size() - 2 * first.size());
  first.pop_back();  // the line end behind the answer
  EXPECT_EQ(second, continuation("The city" + first + " And then"));
}

TEST_F(ChatCli, LinesAndEnds) {
  const std::string more = fmt::format("--template {}", template_.string());
  EXPECT_EQ(chat("The\\\ncity", more).out, continuation("The\ncity"));
  EXPECT_EQ(chat("", more).out, "");
  EXPECT_EQ(chat("\n/nothing\n/help\n", more).out, "");
  EXPECT_EQ(chat("city\n", more + " --system 'The '").out, continuation("The city"));
  const Outcome full = chat(fmt::format("{}\n", std::string(3000, 'x')), more);
  EXPECT_EQ(full.status, 2);
  EXPECT_NE(full.err.find("512"), std::string::npos) << full.err;
}

/// The program on a terminal of its own.
class Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& command) {
    process_ = forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (process_ != 0) return;
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  ~Terminal() {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    close(terminal_);
  }

  void type(std::string_view text) {
    EXPECT_EQ(write(terminal_, text.data(), text.size()), std::ssize(text));
  }

  /// Whether `text` appears, after what was waited for before.
  bool shows(std::string_view text) {
    for (;;) {
      if (const size_t at = shown_.find(text); at != std::string::npos) {
        shown_.erase(0, at + text.size());
        return true;
      }
      pollfd ready{terminal_, POLLIN, 0};
      char bytes[4096];
      if (poll(&ready, 1, 60'000) <= 0) return false;
      const ssize_t size = read(terminal_, bytes, sizeof bytes);
      if (size <= 0) return false;
      shown_.append(bytes, static_cast<size_t>(size));
    }
  }
  const std::string& rest() const { return shown_; }

  int wait() {
    while (shows("\n")) {
    }
    int status = -1;
    waitpid(process_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  int terminal_ = -1;
  pid_t process_ = -1;
  std::string shown_;
};

TEST_F(ChatCli, ControlCStopsAnAnswerAndNotTheProgram) {
  Terminal terminal(
      {TESSERA_BINARY, "chat", model_.string(), "--template", template_.string(), "--temperature", "0"});
  ASSERT_TRUE(terminal.shows("/help")) << terminal.rest();
  ASSERT_TRUE(terminal.shows("> ")) << terminal.rest();
  terminal.type("half a line\x03");
  ASSERT_TRUE(terminal.shows("> ")) << terminal.rest();
  terminal.type("The city\n");
  ASSERT_TRUE(terminal.shows("\n")) << terminal.rest();  // the echo
  ASSERT_TRUE(terminal.shows(" ")) << terminal.rest();   // the answer: a line not yet read would be dropped
  terminal.type("\x03");
  ASSERT_TRUE(terminal.shows("ended by")) << terminal.rest();
  ASSERT_TRUE(terminal.shows("> ")) << terminal.rest();
  terminal.type("/exit\n");
  EXPECT_EQ(terminal.wait(), 0);
}

}  // namespace
}  // namespace tessera
