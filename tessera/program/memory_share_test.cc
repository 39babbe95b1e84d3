// Shares and sizes of memory as options name them.
#include "tessera/program/memory_share.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

namespace tessera {
namespace {

TEST(MemoryShare, TakesSharesAndSizes) {
  constexpr uint64_t kTotal = 80'000'000'000;
  EXPECT_EQ(MemoryShare().of(kTotal), 72'000'000'000u);
  EXPECT_EQ(MemoryShare::parse("0.5").of(kTotal), kTotal / 2);
  EXPECT_EQ(MemoryShare::parse("1").of(kTotal), kTotal);
  EXPECT_EQ(MemoryShare::parse("40GB").of(kTotal), 40'000'000'000u);
  EXPECT_EQ(MemoryShare::parse("40GiB").of(kTotal), uint64_t{40} << 30);
  EXPECT_EQ(MemoryShare::parse("100GB").of(kTotal), kTotal) << "no more than there is";
}

TEST(MemoryShare, RefusesOthers) {
  for (const char* text : {"", "0", "-0.5", "1.5", "nan", "much", "0.5GB0"}) {
    EXPECT_THROW(MemoryShare::parse(text), CLI::ValidationError) << text;
  }
}

}  // namespace
}  // namespace tessera
