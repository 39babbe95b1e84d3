// Block decoders against the gguf Python package: tests/golden/make_gguf.py wrote the blocks and their
// values.
#include "tessera/source/gguf_blocks.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <vector>

#include "tessera/base/atomic_output.h"

namespace tessera {
namespace {

class GgufBlocks : public testing::TestWithParam<uint32_t> {};

TEST_P(GgufBlocks, DecodeToTheSameBits) {
  const GgufFormat& format = *gguf_format(GetParam());
  const std::string file = read_file(std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/golden/gguf" /
                                     (format.name + std::string(".blocks")));
  const size_t one = static_cast<size_t>(format.bytes) + sizeof(float) * static_cast<size_t>(format.elements);
  const size_t count = file.size() / one, bytes = count * static_cast<size_t>(format.bytes);
  ASSERT_EQ(file.size() % one, 0u);
  ASSERT_EQ(count, 24u);
  std::vector<float> expected(count * static_cast<size_t>(format.elements)), values(expected.size());
  std::memcpy(expected.data(), file.data() + bytes, expected.size() * sizeof(float));
  decode_blocks(format, std::as_bytes(std::span(file)).first(bytes), values);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected[i]))
        << "block " << i / static_cast<size_t>(format.elements) << ", value "
        << i % static_cast<size_t>(format.elements);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GgufBlocks, testing::Values(2u, 3u, 6u, 7u, 8u, 12u, 13u, 14u),
                         [](const auto& type) { return std::string(gguf_format(type.param)->name); });

TEST(GgufTypes, SplitBlocksAreTheDecodedOnes) {
  const GgufFormat& format = *gguf_format(2);
  const std::string file =
      read_file(std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/golden/gguf/Q4_0.blocks");
  constexpr size_t kBlocks = 24;
  const auto blocks = std::as_bytes(std::span(file)).first(kBlocks * static_cast<size_t>(format.bytes));
  std::vector<float> decoded(kBlocks * kQ4_0Group);
  decode_blocks(format, blocks, decoded);
  std::vector<uint8_t> codes(decoded.size());
  std::vector<Half> scales(kBlocks);
  split_q4_0(blocks, codes, scales);
  for (size_t i = 0; i < codes.size(); ++i) {
    const float value = to_float(scales[i / kQ4_0Group]) * static_cast<float>(codes[i] - 8);
    ASSERT_EQ(std::bit_cast<uint32_t>(value), std::bit_cast<uint32_t>(decoded[i])) << i;
  }
}

TEST(GgufTypes, AreNamed) {
  EXPECT_EQ(gguf_format(0)->plain, DType::kF32);
  EXPECT_EQ(gguf_format(1)->plain, DType::kF16);
  EXPECT_EQ(gguf_format(30)->plain, DType::kBF16);
  EXPECT_EQ(gguf_format(23), nullptr);
  EXPECT_EQ(gguf_type_name(23), "IQ4_XS");
  EXPECT_EQ(gguf_type_name(14), "Q6_K");
  EXPECT_EQ(gguf_type_name(99), "type 99");
}

}  // namespace
}  // namespace tessera
