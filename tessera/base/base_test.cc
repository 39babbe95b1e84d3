// Tests of base/.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <set>

#include "tessera/base/atomic_output.h"
#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/base/file_lock.h"
#include "tessera/base/hash.h"
#include "tessera/base/mapped_file.h"
#include "tessera/base/parallel.h"
#include "tessera/base/philox.h"
#include "tessera/base/tensor.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

TEST(DType, HalfRoundTripsEveryValue) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half h{static_cast<uint16_t>(bits)};
    const float f = to_float(h);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(to_float(to_half(f))));
    } else {
      ASSERT_EQ(to_half(f).bits, bits);
    }
  }
}

TEST(DType, HalfRoundsToNearestEven) {
  EXPECT_EQ(to_half(1.0f + 0x1p-11f).bits, to_half(1.0f).bits);          // tie, to even
  EXPECT_EQ(to_half(1.0f + 3 * 0x1p-11f).bits, to_half(1.0f).bits + 2);  // tie, to even
  EXPECT_EQ(to_half(0x1p-25f).bits, 0);                                  // tie with zero
  EXPECT_EQ(to_half(std::nextafter(0x1p-25f, 1.0f)).bits, 1);            // smallest subnormal
  EXPECT_EQ(to_half(65519.0f).bits, to_half(65504.0f).bits);             // largest finite
  EXPECT_TRUE(std::isinf(to_float(to_half(65520.0f))));
}

TEST(DType, BFloat16RoundsToNearestEven) {
  EXPECT_EQ(to_float(to_bfloat16(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(to_float(to_bfloat16(1.0f + 3 * 0x1p-8f)), 1.0f + 4 * 0x1p-8f);
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(DType, NamesInvert) {
  for (int i = 0; i <= static_cast<int>(DType::kF8E5M2); ++i) {
    const DType d = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(name_of(d)), d);
  }
  EXPECT_THROW(dtype_from_name("F12"), Error);
}

TEST(Tensor, ConvertsToFloat) {
  const std::vector<BFloat16> values{to_bfloat16(1.5f), to_bfloat16(-2.0f)};
  const Tensor t = Tensor::from<BFloat16>(values, {2});
  EXPECT_EQ(to_floats(t.view()), (std::vector<float>{1.5f, -2.0f}));
  EXPECT_THROW(to_floats(Tensor(DType::kI8, {2}).view()), Error);
}

TEST(Hash, KnownVector) {
  EXPECT_EQ(sha256_base64("abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(AtomicFile, AppearsWholeOrNotAtAll) {
  const fs::path dir = fs::temp_directory_path() / "tessera_atomic_test";
  fs::remove_all(dir);
  fs::create_directories(dir);
  {
    AtomicFile abandoned(dir / "a");
    abandoned.write("half");
  }
  EXPECT_TRUE(fs::is_empty(dir));
  write_file(dir / "a", "whole");
  EXPECT_EQ(read_file(dir / "a"), "whole");
  EXPECT_EQ(MappedFile(dir / "a").bytes().size(), 5u);
  EXPECT_THROW(write_file(dir / "missing" / "a", "x"), Error);
  fs::remove_all(dir);
}

TEST(AtomicFile, TellsWhatItWrote) {
  const fs::path file = fs::temp_directory_path() / "tessera_digest_test";
  const std::string text(3 << 20, 'x');
  AtomicFile output(file);
  output.write(text);
  output.write("y");
  const FileDigest digest = output.commit();
  EXPECT_EQ(digest, (FileDigest{text.size() + 1, sha256_hex(text + "y")}));
  EXPECT_EQ(digest_file(file), digest);
  fs::remove(file);
  EXPECT_THROW(digest_file(file), Error);
}

TEST(FileLock, KeepsOthersOutUntilItsOwnerIsGone) {
  const fs::path file = fs::temp_directory_path() / "tessera_lock_test";
  {
    const FileLock lock(file);
    try {
      const FileLock second(file);
      FAIL() << "two owners";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(fmt::format("process {} is working here", getpid())),
                std::string::npos)
          << e.what();
    }
  }
  const pid_t child = fork();
  if (child == 0) {
    new FileLock(file);  // neither released nor closed: the process just ends
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  const FileLock lock(file);
  EXPECT_EQ(read_file(file), std::to_string(getpid()));
  fs::remove(file);
}

TEST(AtomicFile, FullDiskIsAnError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "needs /dev/full";
  const fs::path dir = fs::temp_directory_path() / "tessera_full_test";
  fs::remove_all(dir);
  fs::create_directories(dir);
  fs::create_symlink("/dev/full", dir / "a.partial");
  EXPECT_THROW(write_file(dir / "a", "x"), Error);
  EXPECT_TRUE(fs::is_empty(dir));
  fs::remove_all(dir);
}

TEST(Parallel, VisitsEveryItemOnce) {
  std::vector<std::atomic<int>> visits(1000);
  parallel_for(1000, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
  parallel_for_dynamic(1000, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
  for (const auto& v : visits) EXPECT_EQ(v.load(), 2);
}

TEST(CpuInfo, IsPlausible) {
  EXPECT_GE(cpu_info().cores, 1);
  EXPECT_GT(available_memory(), 0u);
  EXPECT_GT(peak_memory(), 0u);
}

TEST(Philox, MatchesThePublishedVectors) {
  // kat_vectors of Random123.
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformIsAFunctionOfSeedAndIndex) {
  static_assert(uniform(0, 0) == 0x1.c2d38b1acc4fdp-1);  // e169c58d6627e8d5 without its last 11 bits
  std::set<double> seen;
  double sum = 0;
  for (const uint64_t seed : {0ull, 1ull, 1ull << 32}) {
    for (const uint64_t index : {0ull, 1ull, 1ull << 32}) {
      for (uint64_t i = 0; i < 1000; ++i) {
        const double value = uniform(seed, index + 2 * i);
        ASSERT_TRUE(value >= 0 && value < 1);
        seen.insert(value);
        sum += value;
      }
    }
  }
  EXPECT_EQ(seen.size(), 9000u);
  EXPECT_NEAR(sum / 9000, 0.5, 0.01);
}

}  // namespace
}  // namespace tessera
