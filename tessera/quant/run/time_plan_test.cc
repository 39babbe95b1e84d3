// Tests of the time that a run expects.
#include "tessera/quant/run/time_plan.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

const std::filesystem::path kDemo = std::filesystem::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama";

double passes_of(const std::string& method, int64_t blocks = 1, int64_t windows = 4) {
  return token_passes(RunPlan(kDemo, method_recipe(method)), blocks, windows, 64);
}

TEST(TimePlan, CountsWhatEveryPassDoes) {
  const double streams = 2 * 4 * 64, rtn = passes_of("rtn");
  EXPECT_GT(rtn, streams);
  EXPECT_DOUBLE_EQ(passes_of("rtn", 6), 6 * rtn);
  EXPECT_GT(passes_of("rtn", 1, 8), rtn + streams);
  // Training takes three passes a token: 100 steps of four windows, beside what it rounds and judges.
  EXPECT_GT(passes_of("rtn+tune=on"), rtn + 100 * 4 * 64 * 3);
  EXPECT_LT(passes_of("rtn+tune=on+tune.steps=10"), passes_of("rtn+tune=on") / 4);
  for (const Recipe& recipe : methods()) {
    if (recipe.passes.front()["pass"] == "rtn") continue;
    EXPECT_GT(passes_of(recipe.name + "+weight.group_size=0", 1, 32), 2 * 32 * 64 + 32 * 64) << recipe.name;
  }
}

TEST(TimePlan, MeasuresABlock) {
  const RunPlan plan(kDemo, find_method("rtn"));
  const double seconds = seconds_a_token(plan, nullptr, std::vector<int32_t>(64, 5), at::kCPU);
  EXPECT_GT(seconds, 0);
  EXPECT_LT(seconds, 0.1);
}

TEST(TimePlan, NamesTheRemedyForLongRuns) {
  EXPECT_EQ(time_note(89.2, at::kCPU), "expected time 90 s");
  EXPECT_EQ(time_note(600, at::kCPU), "expected time 10 min");
  EXPECT_NE(time_note(30 * 3600, at::kCPU).find("expected time 30.0 h; --device cuda"), std::string::npos);
  EXPECT_EQ(time_note(30 * 3600, at::Device("cuda:0")), "expected time 30.0 h");
}

}  // namespace
}  // namespace tessera
