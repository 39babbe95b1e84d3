// Where chat templates are found and what they are given.
#include "tessera/chat/chat_template.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "tessera/base/atomic_output.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Json = ChatPrompt::Json;

class ChatTemplateFiles : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / fmt::format("tessera_chat_template_{}", getpid());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  void write(const char* name, const Json& content) { write_file(dir_ / name, content.dump()); }
  std::string render(const ChatPrompt& prompt = {}) { return ChatTemplate::load(dir_)->render(prompt); }

  fs::path dir_;
};

TEST_F(ChatTemplateFiles, AbsentIsNull) {
  EXPECT_EQ(ChatTemplate::load(dir_), nullptr);
  write("tokenizer_config.json", {{"bos_token", "<s>"}});
  EXPECT_EQ(ChatTemplate::load(dir_), nullptr);
  try {
    require_chat_template(dir_, "", "--template");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no chat template"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("--template FILE"), std::string::npos);
  }
}

TEST_F(ChatTemplateFiles, FirstSourceWins) {
  write("chat_template.json", {{"chat_template", "from chat_template.json"}});
  EXPECT_EQ(render(), "from chat_template.json");
  write("tokenizer_config.json", {{"chat_template", "from tokenizer_config.json"}});
  EXPECT_EQ(render(), "from tokenizer_config.json");
  write_file(dir_ / "chat_template.jinja", "from chat_template.jinja\n");
  EXPECT_EQ(render(), "from chat_template.jinja");
  write_file(dir_ / "mine.jinja", "mine");
  EXPECT_EQ(require_chat_template(dir_, dir_ / "mine.jinja", "--template")->render({}), "mine");
}

TEST_F(ChatTemplateFiles, NamedTemplates) {
  write("tokenizer_config.json",
        {{"chat_template",
          {{{"name", "default"}, {"template", "plain"}}, {{"name", "tool_use"}, {"template", "tools"}}}}});
  EXPECT_EQ(render(), "plain");
  EXPECT_EQ(render({.variables = {{"tools", {{{"type", "function"}}}}}}), "tools");
  EXPECT_EQ(render({.variables = {{"tools", nullptr}}}), "plain");
  write("tokenizer_config.json",
        {{"chat_template", {{{"name", "a"}, {"template", "a"}}, {{"name", "b"}, {"template", "b"}}}}});
  EXPECT_THROW(ChatTemplate::load(dir_), Error);
}

TEST_F(ChatTemplateFiles, Variables) {
  write("tokenizer_config.json",
        {{"chat_template",
          "{{ bos_token }}|{{ eos_token }}|{{ pad_token is defined }}|{{ unk_token }}|"
          "{{ tools is none }}|{{ add_generation_prompt }}|{{ flag }}|{{ messages[0].content }}"},
         {"bos_token", {{"content", "<s>"}}},
         {"eos_token", "</s>"},
         {"pad_token", nullptr}});
  write("special_tokens_map.json", {{"eos_token", "other"}, {"unk_token", "<unk>"}});
  const Json messages = {{{"role", "user"}, {"content", "hello"}}};
  EXPECT_EQ(render({.messages = messages, .variables = {{"flag", 1}}}),
            "<s>|</s>|False|<unk>|True|True|1|hello");
  EXPECT_EQ(render({.messages = messages, .add_generation_prompt = false, .variables = {{"bos_token", ""}}}),
            "|</s>|False|<unk>|True|False||hello");
}

TEST_F(ChatTemplateFiles, ErrorsNameTheFile) {
  const auto message = [&] {
    try {
      render();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  write("tokenizer_config.json", {{"chat_template", "{{ messages[ }}"}});
  EXPECT_NE(message().find("tokenizer_config.json: chat_template: line 1, column 14"), std::string::npos)
      << message();
  write("tokenizer_config.json", {{"chat_template", 5}});
  EXPECT_NE(message().find("tokenizer_config.json"), std::string::npos) << message();
  write("tokenizer_config.json", {{"chat_template", "{{ raise_exception('Not like this') }}"}});
  EXPECT_EQ(message(), "Not like this");
}

TEST_F(ChatTemplateFiles, ThreadsShareOne) {
  write_file(dir_ / "chat_template.jinja",
             "{% for m in messages %}{{ m.role }}: {{ m.content | trim | upper }}\n{% endfor %}");
  const auto chat = ChatTemplate::load(dir_);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string content(static_cast<size_t>(t + 1), 'a');
      const std::string wanted = fmt::format("user: {}\n", std::string(content.size(), 'A'));
      for (int i = 0; i < 200; ++i)
        EXPECT_EQ(chat->render({.messages = {{{"role", "user"}, {"content", content}}}}), wanted);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ChatTemplateFiles, DateOfToday) {
  write_file(dir_ / "chat_template.jinja", "{{ strftime_now('%Y') }}");
  setenv("TZ", "UTC", 1);
  tzset();
  EXPECT_EQ(render({.now = 0}), "1970");
  EXPECT_GE(std::stoi(render()), 2024);
}

}  // namespace
}  // namespace tessera
