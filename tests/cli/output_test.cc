// What becomes of results: output that is lost is an error, and names may be any bytes.
#include "tests/cli/cli_fixture.h"

namespace tessera {
namespace {

class Output : public Cli {
 protected:
  /// Exit status of a line of the shell, in which $T is the program. Its stderr goes to `errors_`.
  int shell(const std::string& line) {
    const fs::path errors = dir_ / "errors";
    const int status = std::system(fmt::format("T={}; ( {} ) 2>{}", program_, line, errors.string()).c_str());
    errors_ = read_file(errors);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::string errors_;
};

TEST_F(Output, LostIsAnError) {
  const std::string model = kDemo.string();
  const std::string words = fmt::format("--text {} --window 64 --max-windows 1", text().string());
  for (const std::string& command :
       {std::string("--help"), std::string("--version"), "inspect " + model,
        fmt::format("generate {} --prompt x --max-tokens 2", model),
        fmt::format("--json generate {} --prompt x --max-tokens 2", model),
        fmt::format("perplexity {} {}", model, words), fmt::format("compare {0} {0} {1}", model, words)}) {
    EXPECT_EQ(shell("$T -q " + command + " >/dev/full"), 2) << command;
    EXPECT_NE(errors_.find("cannot write"), std::string::npos) << command << ": " << errors_;
    EXPECT_EQ(std::ranges::count(errors_, '\n'), 1) << errors_;
    EXPECT_EQ(shell("$T -q " + command + " >&-"), 2) << command;
    EXPECT_EQ(std::ranges::count(errors_, '\n'), 1) << errors_;
  }
}

TEST_F(Output, AReaderThatLeavesEndsTheProgramQuietly) {
  const std::string generate =
      fmt::format("$T -q generate {} --prompt x --max-tokens 400 --temperature 1", kDemo.string());
  EXPECT_EQ(
      shell(fmt::format("({}; echo $? >{}) | head -c 1 >/dev/null", generate, (dir_ / "status").string())),
      0);
  EXPECT_EQ(read_file(dir_ / "status"), "2\n");
  EXPECT_EQ(errors_, "");
}

TEST_F(Output, NamesMayBeAnyBytes) {
  const fs::path model = dir_ / "caf\xe9 \x01\"model";
  fs::copy(kDemo, model);
  const fs::path words = dir_ / "text\xff.txt";
  fs::copy_file(text(), words);
  const std::string quoted = fmt::format("'{}'", model.string());
  for (const std::string& command :
       {"inspect " + quoted, fmt::format("generate {} --prompt x --max-tokens 2", quoted),
        fmt::format("perplexity {} --text '{}' --window 64 --max-windows 1", quoted, words.string()),
        fmt::format("compare {0} {0} --text '{1}' --window 64 --max-windows 1 --html '{2}/p\xff.html'",
                    quoted, words.string(), dir_.string())}) {
    const Outcome plain = run("-q " + command), structured = run("-q --json " + command);
    EXPECT_EQ(plain.status, 0) << command << plain.err;
    EXPECT_EQ(structured.status, 0) << command << structured.err;
    EXPECT_TRUE(json::accept(structured.out)) << command;
  }
  EXPECT_TRUE(fs::exists(dir_ / "p\xff.html"));
  fs::remove(model / "config.json");
  expect_refusal("inspect " + quoted, {"config.json", "\\x01"});
}

TEST_F(Output, WhatCannotBeWrittenIsSaidFirst) {
  const std::string compare =
      fmt::format("compare {0} {0} --text {1} --html ", kDemo.string(), text().string());
  expect_refusal(compare + (dir_ / "nowhere" / "page.html").string(), {"page.html", "No such file"});
  expect_refusal(compare + dir_.string(), {"is a folder"});
}

}  // namespace
}  // namespace tessera
