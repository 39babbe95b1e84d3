// The GGUF container: what is read, and hostile files.
#include "tessera/source/gguf_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "tessera/base/error.h"
#include "tessera/source/test_gguf.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class GgufContainer : public testing::Test {
 protected:
  ~GgufContainer() override { fs::remove(path_); }

  /// The message of the Error that reading throws; empty when it does not.
  std::string refusal(const std::string& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
    try {
      GgufFile file(path_);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::string refusal(const GgufBuilder& builder) { return refusal(builder.file()); }

  /// Two keys and two tensors.
  static GgufBuilder sound() {
    GgufBuilder b;
    b.set("general.architecture", "llama").set("numbers", std::vector<int32_t>{1, -2, 3});
    b.add_floats("a", {2, 3}, {1, 2, 3, 4, 5, 6}).add("b", {64}, 8, std::string(68, 'x'));
    return b;
  }

  const fs::path path_ = fs::temp_directory_path() / fmt::format("tessera_gguf_{}.gguf", ::getpid());
};

TEST_F(GgufContainer, ReadsMetadataAndTensors) {
  GgufBuilder b = sound();
  b.set("u32", uint32_t{7}).set("i64", int64_t{-5}).set("float", 0.5f).set("double", 0.25).set("yes", true);
  b.set("words", std::vector<std::string>{"a", "", "ü"}).set("empty", std::vector<float>{});
  for (const uint32_t version : {2u, 3u}) {
    b.version = version;
    b.write(path_);
    const GgufFile file(path_);
    EXPECT_TRUE(is_gguf(path_));
    const JsonNode m = file.metadata();
    EXPECT_EQ(m["general.architecture"].string(), "llama");
    EXPECT_EQ(m["numbers"].get<std::vector<int>>(), (std::vector{1, -2, 3}));
    EXPECT_EQ(m["u32"].get<int>(), 7);
    EXPECT_EQ(m["i64"].get<int>(), -5);
    EXPECT_EQ(m["float"].number(), 0.5);
    EXPECT_EQ(m["double"].number(), 0.25);
    EXPECT_TRUE(m["yes"].boolean());
    EXPECT_EQ(m["words"].get<std::vector<std::string>>(), (std::vector<std::string>{"a", "", "ü"}));
    EXPECT_TRUE(m["empty"].items().empty());
    const GgufTensor& a = file.tensors().at("a");
    EXPECT_EQ(a.shape, (Shape{2, 3}));
    EXPECT_EQ(a.format->plain, DType::kF32);
    float last = 0;
    std::memcpy(&last, a.data.data() + 20, sizeof last);
    EXPECT_EQ(last, 6);
    EXPECT_EQ(file.tensors().at("b").data.size(), 68u);
  }
}

TEST_F(GgufContainer, KeepsOtherAlignments) {
  GgufBuilder b = sound();
  b.alignment = 4096;
  b.set("general.alignment", uint32_t{4096});
  EXPECT_EQ(refusal(b), "");
}

TEST_F(GgufContainer, RefusesOtherFiles) {
  EXPECT_THAT(refusal(""), HasSubstr("header"));
  EXPECT_THAT(refusal(std::string(100, 'x')), HasSubstr("not a GGUF file"));
  GgufBuilder b = sound();
  b.version = 1;
  EXPECT_THAT(refusal(b), HasSubstr("version 1 is not read"));
  b.version = 3u << 24;  // big-endian
  EXPECT_THAT(refusal(b), HasSubstr("version"));
  EXPECT_FALSE(is_gguf(path_.parent_path()));
  EXPECT_FALSE(is_gguf("/absent"));
}

TEST_F(GgufContainer, SurvivesTruncationAtEveryByte) {
  const std::string whole = sound().file();
  for (size_t length = 0; length < whole.size() - 28; ++length) {  // the last 28 bytes only pad
    EXPECT_NE(refusal(whole.substr(0, length)), "") << length;
  }
  EXPECT_EQ(refusal(whole), "");
}

TEST_F(GgufContainer, SurvivesChangedBytes) {
  const GgufBuilder b = sound();
  const std::string whole = b.file();
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    std::string bytes = whole;
    for (int changes = 1 + i % 3; changes > 0; --changes)
      bytes[random() % b.header().size()] = static_cast<char>(random());
    refusal(bytes);  // either way, without a crash
  }
  for (int i = 0; i < 200; ++i) {
    std::string bytes = whole.substr(0, 24);
    while (bytes.size() < 200) bytes += static_cast<char>(random());
    EXPECT_NE(refusal(bytes), "");
  }
}

TEST_F(GgufContainer, RefusesCountsThatCannotBe) {
  GgufBuilder b = sound();
  b.extra_tensors = 70'000;
  EXPECT_THAT(refusal(b), HasSubstr("more than 65536"));
  b.extra_tensors = -3;  // 2^64 - 1 together
  EXPECT_THAT(refusal(b), HasSubstr("more than 65536"));
  b.extra_tensors = 1;
  EXPECT_NE(refusal(b), "");
  b.extra_tensors = 0;
  b.extra_keys = int64_t{1} << 62;
  EXPECT_NE(refusal(b), "");
}

TEST_F(GgufContainer, RefusesHostileMetadata) {
  const auto with = [&](const std::string& typed_value) {
    return refusal(sound().set_raw("hostile", typed_value));
  };
  const auto u32 = [](uint32_t v) { return GgufBuilder::bytes_of(v); };
  const auto u64 = [](uint64_t v) { return GgufBuilder::bytes_of(v); };
  EXPECT_THAT(with(u32(8) + u64(uint64_t{1} << 63)), HasSubstr("too long"));
  EXPECT_THAT(with(u32(8) + u64(16'000'001)), HasSubstr("too long"));
  EXPECT_THAT(with(u32(8) + u64(1'000'000)), HasSubstr("ends in the middle"));
  EXPECT_THAT(with(u32(9) + u32(9) + u64(1)), HasSubstr("array of arrays"));
  EXPECT_THAT(with(u32(9) + u32(0) + u64(uint64_t{1} << 61)), HasSubstr("values of metadata"));
  EXPECT_THAT(with(u32(9) + u32(4) + u64(1'000'000)), HasSubstr("ends in the middle"));
  EXPECT_THAT(with(u32(77)), HasSubstr("unknown type of value 77"));
  EXPECT_THAT(refusal(sound().set("numbers", 1)), HasSubstr("the key numbers comes twice"));
  for (const uint32_t alignment : {0u, 3u, 48u, 8192u})
    EXPECT_THAT(refusal(sound().set("general.alignment", alignment)), HasSubstr("general.alignment"))
        << alignment;
}

TEST_F(GgufContainer, RefusesHostileTensors) {
  const auto with = [&](const Shape& shape, uint32_t type, size_t bytes, int64_t offset = -1) {
    return refusal(sound().add("hostile", shape, type, std::string(bytes, '\0'), offset));
  };
  EXPECT_EQ(with({2, 32}, 2, 36), "");
  EXPECT_THAT(with({2, 33}, 2, 36), HasSubstr("no whole blocks of Q4_0"));
  EXPECT_THAT(with({2, 256}, 23, 36), HasSubstr("tensor hostile: tensors of IQ4_XS are not read"));
  EXPECT_THAT(with({2, 256}, 1000, 36), HasSubstr("type 1000"));
  EXPECT_THAT(with({}, 0, 4), HasSubstr("0 dimensions"));
  EXPECT_THAT(with({1, 1, 1, 1, 1}, 0, 4), HasSubstr("5 dimensions"));
  EXPECT_THAT(with({0, 4}, 0, 4), HasSubstr("extent of 0"));
  EXPECT_THAT(with({-4}, 0, 4), HasSubstr("extent of -4"));
  EXPECT_THAT(with({int64_t{1} << 40, int64_t{1} << 40}, 0, 4), HasSubstr("too large"));
  EXPECT_THAT(with({int64_t{1} << 31, int64_t{1} << 31}, 0, 4), HasSubstr("too large"));
  EXPECT_THAT(with({int64_t{1} << 30}, 0, 4), HasSubstr("lie outside the file"));
  EXPECT_THAT(with({8}, 0, 32, 160 + 32), HasSubstr("lie outside the file"));
  EXPECT_THAT(with({8}, 0, 32, int64_t{1} << 62), HasSubstr("lie outside the file"));
  EXPECT_THAT(with({8}, 0, 32, 4), HasSubstr("no multiple of the alignment"));
  EXPECT_THAT(with({8}, 0, 32, 64), HasSubstr("tensors b and hostile overlap"));
  EXPECT_THAT(with({8}, 0, 32, 0), HasSubstr("overlap"));
  EXPECT_THAT(refusal(sound().add_floats("a", {1}, {1})), HasSubstr("tensor a comes twice"));
}

TEST_F(GgufContainer, NamesAreShownOnOneLine) {
  const std::string message = refusal(sound().add("x\ny\x1b[2J", {1}, 77, "1234"));
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace tessera
