// Tests of the safetensors reader against hostile headers, and of the writer.
#include "tessera/format/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "tessera/base/atomic_output.h"
#include "tessera/base/test_error.h"
#include "tessera/base/test_paths.h"
#include "tessera/format/checkpoint.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class SafetensorsTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ =
        fs::temp_directory_path() /
        fmt::format("tessera_safetensors_{}", testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  /// A file with this header text and `data_bytes` zero bytes of data.
  fs::path write_raw(const std::string& header, size_t data_bytes, uint64_t claimed_header = 0) {
    const uint64_t length = claimed_header ? claimed_header : header.size();
    std::string file(reinterpret_cast<const char*>(&length), 8);
    file += header + std::string(data_bytes, '\0');
    write_file(dir_ / "raw.safetensors", file);
    return dir_ / "raw.safetensors";
  }

  /// The message of the Error that reading throws; empty when it does not.
  std::string refusal(const std::string& header, size_t data_bytes, uint64_t claimed_header = 0) {
    try {
      SafetensorsFile file(write_raw(header, data_bytes, claimed_header));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  fs::path dir_;
};

TEST_F(SafetensorsTest, RoundTrip) {
  const std::vector<float> a{1, 2, 3, 4, 5, 6};
  const std::vector<int8_t> b{-1, 2, -3};
  const std::vector<int32_t> c{7};
  const Tensor ta = Tensor::from<float>(a, {2, 3}), tb = Tensor::from<int8_t>(b, {3}),
               tc = Tensor::from<int32_t>(c, {1}), empty(DType::kF16, {0, 4});
  write_safetensors(dir_ / "model.safetensors",
                    {{"b", tb.view()}, {"a", ta.view()}, {"empty", empty.view()}, {"c", tc.view()}});
  const Checkpoint checkpoint(dir_);
  EXPECT_EQ(to_floats(checkpoint.at("a", {2, 3})), a);
  EXPECT_TRUE(std::ranges::equal(checkpoint.at("b").as<int8_t>(), b));
  EXPECT_TRUE(std::ranges::equal(checkpoint.at("c").as<int32_t>(), c));
  EXPECT_EQ(checkpoint.at("empty").size(), 0);
  EXPECT_THROW(checkpoint.at("a", {3, 2}), Error);
  EXPECT_THROW(checkpoint.at("d"), Error);
}

/// The reference reader wants the data filled from its first byte to its last.
TEST_F(SafetensorsTest, WritesDataWithoutHoles) {
  const Tensor odd(DType::kI8, {3}), wide(DType::kI64, {1}), half(DType::kF16, {3}), single(DType::kF32, {1}),
      empty(DType::kF32, {0});
  const fs::path path = dir_ / "model.safetensors";
  write_safetensors(path, {{"odd", odd.view()},
                           {"half", half.view()},
                           {"empty", empty.view()},
                           {"single", single.view()},
                           {"odder", odd.view()},
                           {"wide", wide.view()}});
  const std::string bytes = read_file(path);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  const auto header = nlohmann::json::parse(bytes.substr(8, header_bytes));
  std::map<uint64_t, uint64_t> extents;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    if (end > begin) extents[begin] = end;
  }
  uint64_t position = 0;
  for (const auto& [begin, end] : extents) {
    EXPECT_EQ(begin, position);
    position = end;
  }
  EXPECT_EQ(8 + header_bytes + position, bytes.size());
  EXPECT_EQ(header_bytes % 8, 0u);
  EXPECT_EQ(Checkpoint(dir_).tensors().size(), 6u);
}

TEST_F(SafetensorsTest, AcceptsPaddedHeaderAndMetadata) {
  EXPECT_EQ(
      refusal(R"({"__metadata__":{"format":"pt"},"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}   )",
              4),
      "");
}

TEST_F(SafetensorsTest, RefusesHostileHeaders) {
  const auto tensor = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"x":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
  };
  EXPECT_NE(refusal("", 0), "");
  EXPECT_NE(refusal("[1]", 0), "");
  EXPECT_NE(refusal("{\"x\":1}", 0), "");
  EXPECT_NE(refusal("{}", 0, 1ull << 60), "") << "header longer than the file";
  EXPECT_NE(refusal("{}", 0, ~0ull), "");
  EXPECT_NE(refusal(tensor("F32", "[2]", "[0,16]"), 8), "") << "end outside the file";
  EXPECT_NE(refusal(tensor("F32", "[2]", "[8,0]"), 8), "") << "backwards";
  EXPECT_NE(refusal(tensor("F32", "[2]", "[0,4]"), 8), "") << "bytes do not match the shape";
  EXPECT_NE(refusal(tensor("F32", "[-2]", "[0,8]"), 8), "") << "negative extent";
  EXPECT_NE(refusal(tensor("F32", "[1.5]", "[0,8]"), 8), "");
  EXPECT_NE(refusal(tensor("F32", "[4294967296,4294967296,4294967296]", "[0,0]"), 8), "")
      << "overflowing product";
  EXPECT_NE(refusal(tensor("F12", "[2]", "[0,16]"), 8), "") << "unknown dtype outside the file";
  EXPECT_NE(refusal(tensor("F32", "[2]", "[0]"), 8), "");
  EXPECT_NE(refusal(tensor("F32", "\"2\"", "[0,8]"), 8), "");
  EXPECT_NE(
      refusal(
          R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
          8),
      "")
      << "overlap";
}

TEST_F(SafetensorsTest, UnalignedTensorsAreCopied) {
  const std::vector<float> values{1.5f, -2};
  std::string header =
      R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}} )";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // the data begin aligned, y behind a byte
  const uint64_t length = header.size();
  write_file(dir_ / "model.safetensors", std::string(reinterpret_cast<const char*>(&length), 8) + header +
                                             "x" +
                                             std::string(reinterpret_cast<const char*>(values.data()), 8));
  const Checkpoint checkpoint(dir_);
  const TensorView y = checkpoint.at("y");
  EXPECT_TRUE(y.owner);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(y.data) % sizeof(float), 0u);
  EXPECT_EQ(to_floats(y), values);
  EXPECT_FALSE(checkpoint.at("x").owner);
}

TEST_F(SafetensorsTest, TensorsThatNobodyReadsAreNotJudged) {
  fs::rename(
      write_raw(
          R"({"x":{"dtype":"F12","shape":[2],"data_offsets":[0,3]},"y":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}})",
          4),
      dir_ / "model.safetensors");
  const Checkpoint checkpoint(dir_);
  EXPECT_EQ(checkpoint.at("y").size(), 1);
  EXPECT_EQ(checkpoint.tensors().size(), 1u);
  EXPECT_TRUE(checkpoint.contains("x")) << "an optional tensor must not seem absent";
  const std::string message = error_of([&] { checkpoint.info("x"); });
  EXPECT_NE(message.find("model.safetensors: tensor x: dtype 'F12' is not readable"), std::string::npos)
      << message;
  EXPECT_EQ(error_of([&] { checkpoint.at("x"); }), message);
}

TEST_F(SafetensorsTest, ErrorsNameFileAndTensor) {
  const std::string message = refusal(R"({"model.x":{"dtype":"F32","shape":[2],"data_offsets":[0,16]}})", 8);
  EXPECT_NE(message.find("raw.safetensors"), std::string::npos) << message;
  EXPECT_NE(message.find("model.x"), std::string::npos) << message;
}

TEST_F(SafetensorsTest, TruncatedAtEveryLengthIsRefusedOrWhole) {
  const std::vector<float> values(16, 1.0f);
  const Tensor t = Tensor::from<float>(values, {16});
  write_safetensors(dir_ / "model.safetensors", {{"x", t.view()}});
  const std::string whole = read_file(dir_ / "model.safetensors");
  for (size_t length = 0; length < whole.size(); ++length) {
    write_file(dir_ / "model.safetensors", whole.substr(0, length));
    EXPECT_THROW(Checkpoint{dir_}, Error) << length;
  }
}

TEST_F(SafetensorsTest, RandomBytesNeverCrash) {
  std::mt19937 rng(1);
  const std::string header = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  for (int i = 0; i < 2000; ++i) {
    std::string mutated = header;
    for (int j = 0; j < 3; ++j) mutated[rng() % mutated.size()] = static_cast<char>(rng());
    refusal(mutated, 8);  // either outcome is fine; the sanitizers watch
  }
}

TEST_F(SafetensorsTest, Shards) {
  const std::vector<float> v{1};
  const Tensor t = Tensor::from<float>(v, {1});
  write_safetensors(dir_ / "m-1.safetensors", {{"a", t.view()}});
  write_safetensors(dir_ / "m-2.safetensors", {{"b", t.view()}});
  const auto index = [&](const std::string& map) {
    write_file(dir_ / "model.safetensors.index.json", R"({"weight_map":)" + map + "}");
  };
  index(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})");
  EXPECT_EQ(Checkpoint(dir_).tensors().size(), 2u);
  index(R"({"a":"m-1.safetensors","b":"m-3.safetensors"})");
  EXPECT_THROW(Checkpoint{dir_}, Error) << "missing shard";
  index(R"({"a":"m-1.safetensors","b":"m-1.safetensors"})");
  EXPECT_EQ(error_of([&] { Checkpoint(dir_).at("b"); }),
            (dir_ / "m-1.safetensors").string() + ": tensor b is missing although the index names it");
  EXPECT_TRUE(Checkpoint(dir_).contains("b"));
  EXPECT_EQ(Checkpoint(dir_).at("a").size(), 1);
  index(R"({"a":"../m-1.safetensors"})");
  EXPECT_THROW(Checkpoint{dir_}, Error) << "path outside the folder";
  index("[]");
  EXPECT_THROW(Checkpoint{dir_}, Error);
  fs::remove(dir_ / "model.safetensors.index.json");
  EXPECT_THROW(Checkpoint{dir_}, Error) << "no weights";
}

TEST_F(SafetensorsTest, TheWholeFileCountsBeforeAnIndex) {
  const std::vector<float> v{1};
  const Tensor t = Tensor::from<float>(v, {1});
  write_safetensors(dir_ / "model.safetensors", {{"a", t.view()}});
  write_file(dir_ / "model.safetensors.index.json", R"({"weight_map":{"a":"gone.safetensors"}})");
  EXPECT_EQ(Checkpoint(dir_).at("a").size(), 1);
}

TEST_F(SafetensorsTest, ShardsWithoutAnIndex) {
  const std::vector<float> v{1};
  const Tensor t = Tensor::from<float>(v, {1});
  const auto discovery = [&] { return error_of([&] { Checkpoint{dir_}; }); };
  EXPECT_NE(discovery().find("neither model.safetensors nor"), std::string::npos) << discovery();
  write_file(dir_ / "pytorch_model.bin", "x");
  EXPECT_NE(discovery().find("pytorch_model.bin is not safetensors; convert"), std::string::npos)
      << discovery();
  write_safetensors(dir_ / "model-00001-of-00002.safetensors", {{"a", t.view()}});
  EXPECT_NE(discovery().find("holds 1 of 00002 shards"), std::string::npos) << discovery();
  write_safetensors(dir_ / "model-00002-of-00002.safetensors", {{"b", t.view()}});
  const Checkpoint checkpoint(dir_);
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b"}));
  write_safetensors(dir_ / "model-00001-of-00003.safetensors", {{"c", t.view()}});
  EXPECT_THROW(Checkpoint{dir_}, Error) << "two sets";
}

TEST_F(SafetensorsTest, OfATensorInTwoShardsTheIndexedOneCounts) {
  const std::vector<float> one{1}, two{2};
  const Tensor first = Tensor::from<float>(one, {1}), second = Tensor::from<float>(two, {1});
  write_safetensors(dir_ / "m-1.safetensors",
                    {{"a", first.view()}, {"b", first.view()}, {"c", first.view()}});
  write_safetensors(dir_ / "m-2.safetensors",
                    {{"a", second.view()}, {"b", second.view()}, {"c", second.view()}});
  write_file(dir_ / "model.safetensors.index.json",
             R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  const Checkpoint checkpoint(dir_);
  EXPECT_EQ(to_floats(checkpoint.at("a")), one);
  EXPECT_EQ(to_floats(checkpoint.at("b")), two);
  EXPECT_EQ(error_of([&] { checkpoint.at("c"); }),
            (dir_ / "m-2.safetensors").string() +
                ": tensor c is also in m-1.safetensors, and the index names neither");
}

TEST(Checkpoint, ReadsRealShards) {
  const fs::path dir = shared_dir() / "models" / "lab-llama";
  TESSERA_REQUIRE_FILE(dir);
  const Checkpoint checkpoint(dir);
  EXPECT_EQ(checkpoint.files().size(), 2u);
  EXPECT_EQ(checkpoint.at("lm_head.weight", {8192, 512}).dtype, DType::kBF16);
}

}  // namespace
}  // namespace tessera
