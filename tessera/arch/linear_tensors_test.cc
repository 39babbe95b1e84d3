// Rows of fused tensors, contiguous and interleaved.
#include "tessera/arch/linear_tensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>

namespace tessera {
namespace {

/// A block with head dimension 2, hidden size 3 and a fused qkv whose weight and bias hold their row numbers.
class FusedQkv : public testing::Test {
 protected:
  ~FusedQkv() override { std::filesystem::remove_all(dir_); }

  void make(int64_t n_heads, int64_t n_kv_heads) {
    spec_.n_heads = n_heads;
    spec_.n_kv_heads = n_kv_heads;
    spec_.head_dim = 2;
    spec_.block_prefix = "h.";
    spec_.linears = {{kQ, "q", spec_.q_size(), 3, true},
                     {kK, "k", spec_.kv_size(), 3, true},
                     {kV, "v", spec_.kv_size(), 3, true}};
    fuse_query_key_value(spec_, "qkv");
    const int64_t rows = spec_.q_size() + 2 * spec_.kv_size();
    Tensor weight(DType::kF32, {rows, 3}), bias(DType::kF32, {rows});
    for (int64_t i = 0; i < 3 * rows; ++i)
      weight.as<float>()[static_cast<size_t>(i)] = static_cast<float>(i / 3);
    std::iota(bias.as<float>().begin(), bias.as<float>().end(), 0.0f);
    std::filesystem::create_directories(dir_);
    write_safetensors(dir_ / "model.safetensors",
                      {{"h.0.qkv.weight", weight.view()}, {"h.0.qkv.bias", bias.view()}});
    checkpoint_.emplace(dir_);
  }

  /// The rows of the fused tensor that make up the linear.
  std::vector<float> rows(LinearRole role) {
    const LinearId id = spec_.id(role);
    const TensorView weight = linear_weight(*checkpoint_, spec_, 0, id),
                     bias = linear_bias(*checkpoint_, spec_, 0, id);
    EXPECT_EQ(weight.shape, (Shape{spec_.linears[id].n, 3}));
    const auto values = weight.as<float>();
    const std::vector<float> numbers = to_floats(bias);
    for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], numbers[i / 3]);
    return numbers;
  }

  ModelSpec spec_;
  std::filesystem::path dir_ = std::filesystem::temp_directory_path() / fmt::format("fused_qkv_{}", getpid());
  std::optional<Checkpoint> checkpoint_;
};

TEST_F(FusedQkv, MultiQueryIsReadInPlace) {
  make(3, 1);
  EXPECT_EQ(rows(kQ), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(rows(kK), (std::vector<float>{6, 7}));
  EXPECT_EQ(rows(kV), (std::vector<float>{8, 9}));
  for (LinearId id : spec_.linear_ids()) EXPECT_FALSE(linear_weight(*checkpoint_, spec_, 0, id).owner);
}

TEST_F(FusedQkv, EveryKeyHeadFollowsItsQueries) {
  make(4, 2);
  EXPECT_EQ(rows(kQ), (std::vector<float>{0, 1, 2, 3, 8, 9, 10, 11}));
  EXPECT_EQ(rows(kK), (std::vector<float>{4, 5, 12, 13}));
  EXPECT_EQ(rows(kV), (std::vector<float>{6, 7, 14, 15}));
  EXPECT_TRUE(linear_weight(*checkpoint_, spec_, 0, spec_.id(kQ)).owner);
}

TEST_F(FusedQkv, HeadsInterleave) {
  make(2, 2);
  EXPECT_EQ(rows(kQ), (std::vector<float>{0, 1, 6, 7}));
  EXPECT_EQ(rows(kK), (std::vector<float>{2, 3, 8, 9}));
  EXPECT_EQ(rows(kV), (std::vector<float>{4, 5, 10, 11}));
}

TEST_F(FusedQkv, AWrongShapeIsRefused) {
  make(2, 2);
  spec_.linear(kQ).fused.rows += 1;
  EXPECT_THROW(linear_weight(*checkpoint_, spec_, 0, spec_.id(kQ)), Error);
}

}  // namespace
}  // namespace tessera
