// Cutting texts into windows.
#include "tessera/eval/windows.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tessera/base/error.h"

namespace tessera {
namespace {

std::vector<int32_t> counting(int32_t n) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

ModelSpec spec_with_context(int64_t positions) {
  ModelSpec spec;
  spec.max_positions = positions;
  return spec;
}

TEST(Windows, GptqCutsDisjointWindowsOfTheContextAndDropsTheRest) {
  const Windows w = cut_windows(counting(35), {}, spec_with_context(10), 99);
  EXPECT_EQ(w.count(), 3);
  EXPECT_EQ(w.length, 10);
  EXPECT_EQ(w.predictions_per_window(), 9);
  EXPECT_EQ(w[2][0], 20);
  EXPECT_EQ(w[2][9], 29);
}

TEST(Windows, LlamaCppPutsBosInFrontAndPredictsTheSecondHalf) {
  const auto ids = counting(1100);
  const Windows w = cut_windows(ids, {.protocol = Protocol::kLlamaCpp}, spec_with_context(2048), 9999);
  EXPECT_EQ(w.count(), 2);
  EXPECT_EQ(w.length, 512);
  EXPECT_EQ(w.first_predicted, 257);  // logits of ids 256 .. 510 predict 257 .. 511
  EXPECT_EQ(w.predictions_per_window(), 255);
  EXPECT_EQ(w[1][0], 9999);
  EXPECT_EQ(w[1][1], 513);
  const Windows plain = cut_windows(ids, {.protocol = Protocol::kLlamaCpp}, spec_with_context(2048), {});
  EXPECT_EQ(plain[1][0], 512);
  EXPECT_EQ(bos_policy(w.protocol, w.bos), "BOS in every window");
  EXPECT_EQ(bos_policy(plain.protocol, plain.bos), "no BOS");
  EXPECT_EQ(bos_policy(Protocol::kGptq, true), "one BOS at the start of the text");
}

TEST(Windows, DefaultLengthIsThatOfThePapersWhereTheModelAllows) {
  EXPECT_EQ(cut_windows(counting(9000), {}, spec_with_context(131072), {}).length, 2048);
  EXPECT_EQ(cut_windows(counting(900), {.protocol = Protocol::kLlamaCpp}, spec_with_context(256), {}).length,
            256);
}

TEST(Windows, MaxWindowsLimits) {
  EXPECT_EQ(cut_windows(counting(40), {.max_windows = 2}, spec_with_context(10), {}).count(), 2);
  EXPECT_EQ(cut_windows(counting(40), {.max_windows = 9}, spec_with_context(10), {}).count(), 4);
  EXPECT_EQ(cut_windows(counting(40), {.window = 8}, spec_with_context(10), {}).count(), 5);
}

TEST(Windows, SaysHowMuchTextItWants) {
  EXPECT_EQ(ids_wanted({}, spec_with_context(10)), 0);
  EXPECT_EQ(ids_wanted({.max_windows = 3}, spec_with_context(10)), 30);
  EXPECT_EQ(ids_wanted({.protocol = Protocol::kLlamaCpp, .max_windows = 2}, spec_with_context(4096)), 1024);
  EXPECT_EQ(ids_wanted({.window = 8, .max_windows = INT64_MAX / 2}, spec_with_context(10)), 0);
}

TEST(Windows, ImpossibleRequestsAreRefused) {
  EXPECT_THROW(cut_windows(counting(9), {}, spec_with_context(10), {}), Error);
  EXPECT_THROW(cut_windows(counting(40), {.window = 11}, spec_with_context(10), {}), Error);
  EXPECT_THROW(cut_windows(counting(40), {.window = 2}, spec_with_context(10), {}), Error);
  EXPECT_THROW(protocol_from_name("lm-eval"), Error);
  EXPECT_EQ(protocol_from_name("llama.cpp"), Protocol::kLlamaCpp);
}

}  // namespace
}  // namespace tessera
