// Tests of uint4 codes with float16 group scales, and of weights over the input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tessera/base/error.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(FloatGroups, AreDescribed) {
  EXPECT_EQ(describe(random_layer(
                {.format = WeightFormat::kUint4Float, .group_size = 32, .activation = {.bits = 16}}, 1)),
            "w4a16 g32 f16 scales");
}

TEST(FloatGroups, RunWithFloatInputs) {
  const auto error_of = [](const std::function<void(QuantizedLinear&)>& change) -> std::string {
    QuantizedLinear l = random_layer({.format = WeightFormat::kUint4Float,
                                      .n = 4,
                                      .group_size = 32,
                                      .activation = {.bits = 16},
                                      .group_zeros = true},
                                     1);
    change(l);
    try {
      l.validate("x");
      l.require_kernel("x");
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error_of([](QuantizedLinear&) {}), "");
  EXPECT_EQ(error_of([](QuantizedLinear& l) { l.group_scale.as<Half>()[3] = to_half(0); }), "");
  EXPECT_THAT(
      error_of([](QuantizedLinear& l) { l.activation = {}; }),
      HasSubstr(
          "x: 8-bit activations with float group scales have no integer kernel; quantize the model again"));
  for (float bad : {-1.0f, INFINITY, NAN}) {
    EXPECT_THAT(error_of([&](QuantizedLinear& l) { l.group_scale.as<Half>()[3] = to_half(bad); }),
                HasSubstr("negative or not finite"));
  }
  EXPECT_THAT(error_of([](QuantizedLinear& l) { l.group_zero.as<uint8_t>()[2] = 16; }),
              HasSubstr("group_zero 16"));
  EXPECT_THAT(error_of([](QuantizedLinear& l) {
                l.group_size = 16;
                l.group_scale = Tensor(DType::kF16, {4, 4});
                l.group_zero = {};
              }),
              HasSubstr("groups of 16 inputs have no kernel, multiples of 32 have"));
}

TEST(InputWeights, AreWhatTheLayerComputes) {
  QuantizedLinear l = random_layer({.n = 5, .k = 6, .activation = {.bits = 16}, .outliers = 2}, 3);
  l.input_index = Tensor::from<int32_t>(std::vector<int32_t>{7, 0, 0, 3, 4, 1}, {6});
  l.input_gain = Tensor::from<float>(std::vector<float>{1, 0.5f, 0.5f, 2, -1, 1}, {6});
  const auto k_in = static_cast<size_t>(l.k_in());
  const std::vector<float> weights = input_weights(l);
  for (size_t k = 0; k < k_in; ++k) {
    std::vector<float> unit(k_in), y(5);
    unit[k] = 1;
    reference_forward(l, unit, 1, y);
    for (size_t n = 0; n < 5; ++n) EXPECT_FLOAT_EQ(y[n], weights[n * k_in + k]) << n << ", " << k;
  }
}

TEST(FloatGroups, RoundTripThroughFiles) {
  const fs::path dir = fs::temp_directory_path() / "tessera_float_scales_test";
  fs::create_directories(dir);
  const QuantizedLinear l = random_layer({.format = WeightFormat::kUint4Float,
                                          .n = 6,
                                          .k = 128,
                                          .group_size = 64,
                                          .activation = {.bits = 16},
                                          .group_zeros = true},
                                         5);
  write_safetensors(dir / "model.safetensors", named_tensors(l, "q_proj"));
  const QuantizedLinear back =
      load_quantized_linear(Checkpoint(dir), "q_proj", {.activation = {.bits = 16}}, 6, 128);
  EXPECT_EQ(back.weight_format, WeightFormat::kUint4Float);
  EXPECT_EQ(back.bytes(), l.bytes());
  EXPECT_EQ(dequantize(back), dequantize(l));
  fs::remove_all(dir);
}

}  // namespace
}  // namespace tessera
