// Tests of reading QQQ's layers.
#include <gtest/gtest.h>

#include <limits>

#include "tessera/base/error.h"
#include "tessera/format/foreign/test_qqq.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"

namespace tessera::qqq {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kOutputs = 128, kInputs = 256;

class QqqCheckpoint : public testing::Test {
 protected:
  ~QqqCheckpoint() override { fs::remove_all(dir_); }

  static QuantizedLinear random_linear(int64_t group_size) {
    const auto format = group_size > 0 ? WeightFormat::kUint4Grouped : WeightFormat::kInt4;
    return random_layer({.format = format, .n = kOutputs, .k = kInputs, .group_size = group_size}, 5);
  }

  QuantizedLinear load(const std::map<std::string, Tensor>& tensors) {
    fs::create_directories(dir_);
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors) named.push_back({"q_proj." + name, tensor.view()});
    write_safetensors(dir_ / "model.safetensors", named);
    const nlohmann::json section = {{"quant_method", "qqq"}, {"wbits", 4}};
    const auto config = read_quantization_config({{{"quantization_config", section}}, "config.json"});
    return load_quantized_linear(Checkpoint(dir_), "q_proj", *config, kOutputs, kInputs);
  }

  void expect_error(const std::map<std::string, Tensor>& tensors, const std::string& part) {
    try {
      load(tensors);
      ADD_FAILURE() << "no error with " << part;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  static std::vector<int8_t> expanded(const QuantizedLinear& linear) {
    std::vector<int8_t> w8(static_cast<size_t>(linear.n * linear.k));
    for (int64_t output = 0; output < linear.n; ++output) {
      expand_row(
          linear, output,
          std::span(w8).subspan(static_cast<size_t>(output * linear.k), static_cast<size_t>(linear.k)));
    }
    return w8;
  }

  static std::vector<float> scales(const QuantizedLinear& linear) {
    const auto values = linear.scale.as<float>();
    return {values.begin(), values.end()};
  }

 private:
  fs::path dir_ = fs::temp_directory_path() /
                  (std::string("tessera_") + testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(QqqCheckpoint, OneScaleARowStaysFourBits) {
  const QuantizedLinear expected = random_linear(0);
  const QuantizedLinear read = load(stored_tensors(expected));
  EXPECT_EQ(read.weight_format, WeightFormat::kInt4);
  EXPECT_EQ(expanded(read), expanded(expected));
  EXPECT_EQ(scales(read), scales(expected));
}

TEST_F(QqqCheckpoint, IntegerGroupScalesStayFourBits) {
  const QuantizedLinear expected = random_linear(128);
  const QuantizedLinear read = load(stored_tensors(expected));
  EXPECT_EQ(read.weight_format, WeightFormat::kUint4Grouped);
  EXPECT_EQ(read.group_size, 128);
  EXPECT_EQ(expanded(read), expanded(expected));
  EXPECT_EQ(scales(read), scales(expected));
}

TEST_F(QqqCheckpoint, OtherGroupScalesBecomeTheEightBitsThatQqqMultiplies) {
  constexpr float kFactor = 0.73f;
  const QuantizedLinear original = random_linear(128);
  const QuantizedLinear read = load(stored_tensors(original, kFactor));
  EXPECT_EQ(read.weight_format, WeightFormat::kInt8);
  EXPECT_EQ(scales(read), scales(original));
  const std::vector<int8_t> w8 = expanded(read);
  for (int64_t output = 0; output < kOutputs; ++output) {
    for (int64_t column = 0; column < kInputs; ++column) {
      const auto at = static_cast<size_t>(output * kInputs + column);
      const int u = unpack_nibble(original.qweight.as<uint8_t>()[at / 2], column);
      const auto group = static_cast<size_t>(output * original.groups() + column / 128);
      const Half scale = to_half(kFactor * static_cast<float>(original.group_scale.as<int8_t>()[group]));
      ASSERT_EQ(w8[at], expand_grouped(u, scale)) << output << ", " << column;
    }
  }
}

TEST_F(QqqCheckpoint, ReadsBiasesAndEmptyGroupScales) {
  auto tensors = stored_tensors(random_linear(0));
  tensors["s_group"] = Tensor(DType::kF16, {0, 0});
  Tensor& bias = tensors["bias"] = Tensor(DType::kF16, {kOutputs});
  bias.as<Half>()[3] = to_half(-1.5f);
  const QuantizedLinear read = load(tensors);
  EXPECT_EQ(read.weight_format, WeightFormat::kInt4);
  EXPECT_EQ(read.bias.as<float>()[3], -1.5f);
}

TEST_F(QqqCheckpoint, RefusesWhatItCannotRead) {
  const auto with = [&](const char* name, Tensor tensor, int64_t group_size = 128) {
    auto tensors = stored_tensors(random_linear(group_size));
    tensors[name] = std::move(tensor);
    return tensors;
  };
  expect_error(with("B", Tensor(DType::kI32, {16, 200})), "q_proj.B: has shape [16, 200]");
  expect_error(with("B", Tensor(DType::kF32, {16, 256})), "q_proj.B: is F32");
  expect_error(with("s_channel", Tensor(DType::kF32, {kOutputs})), "q_proj.s_channel: is F32 [128]");
  expect_error(with("s_group", Tensor(DType::kF16, {3, kOutputs})), "3 groups do not divide 256 inputs");
  expect_error(with("B", Tensor(DType::kI32, {8, 256}), 0), "config.json asks for");

  auto missing = stored_tensors(random_linear(0));
  missing.erase("s_channel");
  expect_error(missing, "s_channel");
  for (float scale : {17.5f, -0.5f, std::numeric_limits<float>::quiet_NaN()}) {
    auto tensors = stored_tensors(random_linear(128));
    std::ranges::fill(tensors["s_group"].as<Half>(), to_half(scale));  // some group holds a code of 0
    expect_error(tensors, "q_proj.s_group: a scale of output");
  }
  auto infinite = stored_tensors(random_linear(0));
  infinite["s_channel"].as<float>()[5] = std::numeric_limits<float>::infinity();
  expect_error(infinite, "q_proj");
}

}  // namespace
}  // namespace tessera::qqq
