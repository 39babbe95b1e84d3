// Stop strings across pieces of text.
#include "tessera/engine/stop_filter.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(StopFilter, WithoutStopsEverythingPasses) {
  StopFilter filter({""});
  EXPECT_EQ(filter.push("abc"), "abc");
  EXPECT_EQ(filter.finish(), "");
  EXPECT_FALSE(filter.stopped());
}

TEST(StopFilter, HoldsBackWhatMayBecomeAStop) {
  StopFilter filter({"END"});
  EXPECT_EQ(filter.push("text E"), "text ");
  EXPECT_EQ(filter.push("N"), "");
  EXPECT_EQ(filter.push("T E"), "ENT ");
  EXPECT_EQ(filter.push("NDless"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.push("more"), "");
  EXPECT_EQ(filter.finish(), "");
}

TEST(StopFilter, TheEarliestOfSeveralStopsCounts) {
  StopFilter filter({"b", "ab"});
  EXPECT_EQ(filter.push("xxaby"), "xx");
  EXPECT_TRUE(filter.stopped());
}

TEST(StopFilter, OverlappingBeginnings) {
  StopFilter filter({"aab"});
  EXPECT_EQ(filter.push("aaa"), "a");
  EXPECT_EQ(filter.push("b"), "");
  EXPECT_TRUE(filter.stopped());
}

TEST(StopFilter, FinishReleasesWhatIsHeld) {
  StopFilter filter({"\n\n"});
  EXPECT_EQ(filter.push("line\n"), "line");
  EXPECT_EQ(filter.finish(), "\n");
}

}  // namespace
}  // namespace tessera
