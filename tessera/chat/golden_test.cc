// Judged by Jinja2 itself: tests/chat/record_golden.py says how the file was made.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tessera/base/atomic_output.h"
#include "tessera/chat/chat_template.h"

namespace tessera {
namespace {

using jinja::Json;

const Json& golden() {
  static const Json document =
      Json::parse(read_file(std::filesystem::path(TESSERA_SOURCE_DIR) / "tests" / "chat" / "golden.json"));
  return document;
}

/// What came of a template: its output, or the message of the Error.
struct Outcome {
  bool failed = false;
  std::string text;
};

Outcome render(const std::string& source, const Json& variables) {
  try {
    return {false, jinja::Template(source, "test").render(variables, golden()["now"].get<std::time_t>())};
  } catch (const Error& error) {
    return {true, error.what()};
  }
}

void expect_same(const Json& recorded, const Outcome& outcome) {
  if (recorded.contains("output")) {
    EXPECT_FALSE(outcome.failed) << outcome.text;
    EXPECT_EQ(outcome.text, recorded["output"].get<std::string>());
    return;
  }
  EXPECT_TRUE(outcome.failed) << "gave: " << outcome.text;
  if (recorded.contains("raised")) {
    EXPECT_EQ(outcome.text, recorded["raised"].get<std::string>());
  }
  // What is undefined, or refused by the sandbox, is said in Jinja's words; other errors are Python's.
  const std::string kind = recorded.value("fails", "");
  if (kind == "UndefinedError" || kind == "SecurityError") {
    EXPECT_NE(outcome.text.find(recorded["message"].get<std::string>()), std::string::npos)
        << outcome.text << "\nwanted: " << recorded["message"];
  }
}

TEST(Golden, RendersWhatJinjaRenders) {
  setenv("TZ", "UTC", 1);
  tzset();
  ASSERT_GT(golden()["cases"].size(), 500u);
  for (const Json& item : golden()["cases"]) {
    if (item.contains("source")) {
      SCOPED_TRACE(item["source"].get<std::string>());
      expect_same(item, render(item["source"].get<std::string>(), golden()["variables"]));
    } else {
      const std::string name = item["template"], conversation = item["conversation"];
      SCOPED_TRACE(name + ", " + conversation);
      Json variables = golden()["conversations"][conversation];
      variables["add_generation_prompt"] = item["add_generation_prompt"];
      expect_same(item, render(golden()["templates"][name].get<std::string>(), variables));
    }
  }
}

}  // namespace
}  // namespace tessera
