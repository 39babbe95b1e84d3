// Calibration windows: where they come from, evenly and reproducibly.
#include "tessera/quant/run/calibration.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tessera/base/error.h"

namespace tessera {
namespace {

std::vector<int32_t> counting(size_t n) {
  std::vector<int32_t> ids(n);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

TEST(SampleWindows, CutsWhereTheManifestSays) {
  const std::vector<int32_t> ids = counting(1000);
  const CalibrationSet set = sample_windows(ids, 20, 64, 7, "text");
  ASSERT_EQ(set.windows.size(), 20u);
  EXPECT_EQ(set.window_tokens(), 64);
  for (size_t i = 0; i < 20; ++i) {
    const auto offset = set.manifest["offsets"][i].get<int32_t>();
    EXPECT_EQ(set.windows[i].front(), offset);
    EXPECT_EQ(set.windows[i].back(), offset + 63);
  }
  EXPECT_EQ(set.manifest["source"], "text");
  EXPECT_EQ(set.manifest["seed"], 7);
}

TEST(SampleWindows, IsTheSameOnEveryMachine) {
  const std::vector<int32_t> ids = counting(100000);
  EXPECT_EQ(sample_windows(ids, 9, 512, 3, "a").windows, sample_windows(ids, 9, 512, 3, "b").windows);
  EXPECT_NE(sample_windows(ids, 9, 512, 3, "a").windows, sample_windows(ids, 9, 512, 4, "a").windows);
  // mt19937_64 with seed 5489 begins 14514284786278117030, 4620546740167642908 (both fixed by the standard).
  const auto offsets = sample_windows(ids, 2, 512, 5489, "a").manifest["offsets"];
  EXPECT_EQ(offsets[0], 14514284786278117030u % (100000 - 512));
  EXPECT_EQ(offsets[1], 4620546740167642908u % (100000 - 512));
}

TEST(SampleWindows, ReachesEveryOffsetEvenly) {
  const std::vector<int32_t> ids = counting(11);  // offsets 0..9 with one token
  std::vector<int> count(10);
  const int draws = 20000;
  for (const auto& window : sample_windows(ids, draws, 1, 0, "text").windows)
    ++count.at(static_cast<size_t>(window[0]));
  double chi_square = 0;
  for (int c : count) chi_square += (c - draws / 10.0) * (c - draws / 10.0) / (draws / 10.0);
  EXPECT_LT(chi_square, 27.9);  // 9 degrees of freedom, p = 0.001
}

TEST(SampleWindows, SaysHowMuchTextItNeeds) {
  EXPECT_EQ(sample_windows(counting(513), 3, 512, 0, "t").windows.size(), 3u);
  try {
    sample_windows(counting(512), 3, 512, 0, "short.txt");
    FAIL() << "accepted a text that is too short";
  } catch (const Error& e) {
    EXPECT_STREQ(
        e.what(),
        "short.txt: 512 tokens are too few to calibrate on; windows of 512 tokens need at least 513");
  }
  EXPECT_THROW(sample_windows(counting(512), 0, 16, 0, "t"), Error);
  EXPECT_THROW(sample_windows(counting(512), 1, 0, 0, "t"), Error);
}

}  // namespace
}  // namespace tessera
