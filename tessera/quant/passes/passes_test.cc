// Options of passes and the round-to-nearest pass.
#include "tessera/quant/passes/passes.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

std::string message_of(const nlohmann::json& step) {
  try {
    make_pass(step);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(MakePass, RefusesWhatItDoesNotKnow) {
  EXPECT_NE(message_of({{"pass", "magic"}}).find("known: "), std::string::npos);
  EXPECT_NE(message_of({{"pass", "rtn"}, {"speed", 3}}).find("unknown option 'speed'"), std::string::npos);
  EXPECT_NE(message_of({{"pass", "rtn"}, {"search", "yes"}}).find("option 'search'"), std::string::npos);
  EXPECT_NE(message_of({{"pass", "rtn"}, {"clip", "hard"}}).find("none, mse, weighted"), std::string::npos);
  EXPECT_NE(message_of("rtn").find("names no pass"), std::string::npos);
}

TEST(MakePass, MakesEveryKnownPassWithItsDefaults) {
  for (const PassInfo& info : known_passes()) {
    nlohmann::json step = info.defaults;
    step["pass"] = info.name;
    EXPECT_EQ(make_pass(step)->name(), info.name);
  }
}

}  // namespace
}  // namespace tessera
