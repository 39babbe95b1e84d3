// Tests of the writers: what they write, the readers give back, byte for byte; what a format cannot hold is
// refused. tests/interop judges them with the libraries of the other tools.
#include "tessera/format/foreign/writers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tessera/base/dyadic.h"
#include "tessera/base/error.h"
#include "tessera/format/foreign/affine_weights.h"
#include "tessera/format/foreign/awq_layout.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"
#include "tessera/source/gguf_blocks.h"

namespace tessera::foreign {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using enum WeightFormat;

constexpr const char* kName = "model.layers.0.mlp.up_proj";
constexpr ActivationFormat kFloats{.bits = 16};
constexpr ActivationFormat kTokens{};

/// A scale with exactly `bits` significant bits, far from the ends of float16.
float scale_of(int bits, size_t i) {
  const auto odd = (size_t{1} << (bits - 1)) + 1 + 2 * (i % (size_t{1} << (bits - 2)));
  return std::ldexp(static_cast<float>(bits > 2 ? odd : 1), -8 - bits);
}

/// A layer whose output scales have `scale_bits` bits and whose group scales have 4, as tessera quantize
/// makes them. The first group scale of an output is 1, so that the largest common float of an output is its
/// scale.
QuantizedLinear layer(const LayerOptions& options, int scale_bits, unsigned seed = 1) {
  QuantizedLinear l = random_layer(options, seed);
  for (size_t n = 0; n < static_cast<size_t>(l.n); ++n) l.scale.as<float>()[n] = scale_of(scale_bits, n);
  if (l.weight_format == kUint4Grouped) {
    for (int8_t& scale : l.group_scale.as<int8_t>()) {
      if (scale > 15) scale = static_cast<int8_t>(scale & ~1);
    }
    for (int64_t n = 0; n < l.n; ++n) l.group_scale.as<int8_t>()[static_cast<size_t>(n * l.groups())] = 1;
  }
  if (l.weight_format == kUint4Float) std::ranges::fill(l.scale.as<float>(), 1.0f);
  l.validate("test layer");
  return l;
}

WrittenLinear write(const std::string& target, const QuantizedLinear& linear, bool round = false,
                    int64_t group_size = 0) {
  const auto [writer, variant] = find_writer(target);
  return writer->write(linear, kName, {.round = round, .group_size = group_size, .variant = variant});
}

std::string error_of(const std::string& target, const QuantizedLinear& linear, bool round = false,
                     int64_t group_size = 0) {
  try {
    write(target, linear, round, group_size);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

/// The layer as a reader finds it in the file that `written` makes.
QuantizedLinear read_back(const std::string& target, const WrittenLinear& written, const Shape& shape) {
  const fs::path dir =
      fs::temp_directory_path() /
      fmt::format("tessera_writers_{}", testing::UnitTest::GetInstance()->current_test_info()->line());
  fs::create_directories(dir);
  std::vector<NamedTensor> named;
  for (const auto& [last, tensor] : written.tensors)
    named.push_back({fmt::format("{}.{}", kName, last), tensor.view()});
  write_safetensors(dir / "model.safetensors", named);
  const json section = find_writer(target).first->config({{kName, written.scheme}});
  const auto config = read_quantization_config({{{"quantization_config", section}}, "config.json"});
  QuantizedLinear linear = load_quantized_linear(Checkpoint(dir), kName, *config, shape[0], shape[1]);
  fs::remove_all(dir);
  return linear;
}

void expect_same_bytes(const QuantizedLinear& found, const QuantizedLinear& expected) {
  const auto a = named_tensors(found, ""), b = named_tensors(expected, "");
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name);
    ASSERT_EQ(a[i].tensor.bytes(), b[i].tensor.bytes()) << a[i].name;
    EXPECT_EQ(std::memcmp(a[i].tensor.data, b[i].tensor.data, a[i].tensor.bytes()), 0) << a[i].name;
  }
}

struct Case {
  const char* target;
  LayerOptions options;
  int scale_bits;  ///< the most that must be held
};

LayerOptions of(WeightFormat format, int64_t group_size, bool zeros, ActivationFormat activation) {
  return {.format = format,
          .n = 128,
          .k = 256,
          .group_size = group_size,
          .activation = activation,
          .group_zeros = zeros};
}

std::vector<Case> cases() {
  std::vector<Case> list = {{"qqq", of(kInt4, 0, false, kTokens), 24},
                            {"qqq", of(kUint4Grouped, 128, false, kTokens), 24},
                            {"compressed-tensors", of(kInt8, 0, false, kTokens), 24},
                            {"compressed-tensors", of(kInt4, 0, false, kTokens), 11},
                            {"compressed-tensors", of(kInt4, 0, false, {.bits = 4}), 11},
                            {"compressed-tensors", of(kUint4Grouped, 128, false, kTokens), 7},
                            {"compressed-tensors", of(kInt8, 0, false, {.per_token = false}), 24}};
  for (const char* target : {"compressed-tensors", "gptq_v2", "awq", "tessera"}) {
    list.push_back({target, of(kInt4, 0, false, kFloats), 11});
    list.push_back({target, of(kUint4Grouped, 256, true, kFloats), 11});
    list.push_back({target, of(kUint4Grouped, 64, false, kFloats), 7});
    list.push_back({target, of(kUint4Grouped, 32, true, kFloats), 7});
    list.push_back({target, of(kUint4Float, 64, true, kFloats), 11});
    list.push_back({target, of(kUint4Float, 32, false, kFloats), 11});
  }
  for (const char* target : {"compressed-tensors", "gptq", "gptq_v2"})
    list.push_back({target, of(kInt8, 0, false, kFloats), 11});
  list.push_back({"gptq", of(kInt4, 0, false, kFloats), 11});
  list.push_back({"gptq", of(kUint4Grouped, 128, false, kFloats), 7});
  return list;
}

TEST(Writers, WhatAFormatHoldsComesBackToTheLastBit) {
  unsigned seed = 0;
  for (const Case& c : cases()) {
    QuantizedLinear linear = layer(c.options, c.scale_bits, ++seed);
    if (linear.weight_format == kUint4Grouped && linear.groups() == 1)
      std::ranges::fill(linear.group_scale.as<int8_t>(), int8_t{1});
    SCOPED_TRACE(fmt::format("{} {}", c.target, describe(linear)));
    const WrittenLinear written = write(c.target, linear);
    EXPECT_EQ(written.rounding.changed, 0);
    const QuantizedLinear found = read_back(c.target, written, {linear.n, linear.k});
    EXPECT_EQ(found.activation, linear.activation);
    expect_same_bytes(found, linear);
  }
}

TEST(Writers, AScaleWithOneBitMoreIsRefusedOrRoundedAndCounted) {
  const auto options = of(kInt4, 0, false, kFloats);
  const float refused = std::ldexp(2053.0f, -20);  // a prime of 12 bits
  for (const char* target :
       {"compressed-tensors", "gptq", "gptq_v2", "awq", "gguf:q4_0", "gguf:q8_0", "gguf"}) {
    EXPECT_EQ(error_of(target, layer(options, 11)), "no error") << target;
    QuantizedLinear linear = layer(options, 11);
    linear.scale.as<float>()[5] = refused;
    EXPECT_THAT(error_of(target, linear),
                HasSubstr(fmt::format("{}: the scale {} of output 5, group 0 is no float16 number; --round",
                                      kName, double{refused})))
        << target;
    const WrittenLinear rounded = write(target, linear, true);
    EXPECT_GE(rounded.rounding.changed, 1);
    EXPECT_GT(rounded.rounding.largest, 0);
    EXPECT_LE(rounded.rounding.largest, 0x1p-11);
  }
  QuantizedLinear linear = layer(options, 11);
  linear.scale.as<float>()[0] = 1e6f;
  EXPECT_THAT(error_of("awq", linear, true), HasSubstr("is beyond float16"));
}

/// Two groups an output: of scale 1 and of `group_scale`; output scales of `scale_bits` bits.
QuantizedLinear grouped(int scale_bits, int group_scale, bool zeros = false) {
  QuantizedLinear linear = layer(of(kUint4Grouped, 128, zeros, kFloats), scale_bits);
  linear.qweight =  // products stay in int8 whatever the group scale
      pack_int4(std::vector<int8_t>(static_cast<size_t>(linear.n * linear.k), 8), linear.n, linear.k);
  if (zeros) std::ranges::fill(linear.group_zero.as<uint8_t>(), uint8_t{9});
  std::ranges::fill(linear.group_scale.as<int8_t>(), int8_t{1});
  for (size_t g = 1; g < linear.group_scale.as<int8_t>().size(); g += 2)
    linear.group_scale.as<int8_t>()[g] = static_cast<int8_t>(group_scale);
  linear.validate("test layer");
  return linear;
}

/// Products of both scales need 11 bits, output scales alone 11 in Q4_K: one bit more is refused.
TEST(Writers, ConditionsOfGroupedLayersAreTight) {
  for (const char* target : {"compressed-tensors", "gptq_v2", "awq"}) {
    for (const auto& [scale_bits, group_scale, held] : {std::tuple{7, 16, true},
                                                        {7, 15, true},
                                                        {7, 17, false},
                                                        {7, 127, false},
                                                        {7, 120, true},
                                                        {8, 16, true},
                                                        {8, 15, false},
                                                        {8, 14, true},
                                                        {11, 64, true},
                                                        {11, 3, false},
                                                        {12, 1, false}}) {
      const std::string error = error_of(target, grouped(scale_bits, group_scale));
      EXPECT_EQ(error == "no error", held) << target << " " << scale_bits << " " << group_scale << error;
      if (!held) {
        EXPECT_THAT(error, HasSubstr("is no float16 number; --round"));
      }
    }
  }
  EXPECT_EQ(error_of("gguf:q4_0", grouped(7, 15)), "no error");
  EXPECT_THAT(error_of("gguf:q4_0", grouped(7, 17)), HasSubstr("is no float16 number"));
  EXPECT_THAT(error_of("gguf:q4_0", grouped(7, 15, true)), HasSubstr("has no zero point"));
  EXPECT_EQ(error_of("gguf:q4_k", grouped(11, 63)), "no error");
  EXPECT_THAT(error_of("gguf:q4_k", grouped(12, 63)), HasSubstr("is no float16 number"));
  EXPECT_EQ(error_of("qqq", layer(of(kUint4Grouped, 128, false, kTokens), 24)), "no error");
}

TEST(Writers, FloatsHoldWhatHasFewEnoughBits) {
  EXPECT_EQ(error_of("hf", layer(of(kInt4, 0, false, kFloats), 21)), "no error");
  EXPECT_THAT(error_of("hf", layer(of(kInt4, 0, false, kFloats), 24)), HasSubstr("is no float32 number"));
  EXPECT_EQ(error_of("hf:bf16", layer(of(kInt4, 0, false, kFloats), 5)), "no error");
  EXPECT_THAT(error_of("hf:bf16", layer(of(kInt4, 0, false, kFloats), 7)),
              HasSubstr("is no bfloat16 number"));
  const QuantizedLinear linear = layer(of(kUint4Grouped, 64, true, kFloats), 7);
  const WrittenLinear written = write("hf", linear);
  EXPECT_EQ(to_floats(written.tensors.at(0).second.view()), dequantize(linear));
}

/// All weights that GGUF's own arithmetic makes of the blocks.
std::vector<float> decoded(const WrittenLinear& written, int64_t n, int64_t k) {
  std::vector<float> out(static_cast<size_t>(n * k));
  const Tensor& rows = written.tensors.at(0).second;
  for (uint32_t id = 0; id < 32; ++id) {
    if (const GgufFormat* format = gguf_format(id); format && written.scheme == format->name)
      decode_blocks(*format, {rows.data(), rows.bytes()}, out);
  }
  return out;
}

TEST(Writers, GgufBlocksDecodeToTheSameWeights) {
  struct {
    const char *target, *type;
    LayerOptions options;
    int scale_bits;
  } const list[] = {{"gguf", "Q4_0", of(kInt4, 0, false, kTokens), 11},
                    {"gguf:q4_1", "Q4_1", of(kInt4, 0, false, kTokens), 11},
                    {"gguf:q4_k", "Q4_K", of(kInt4, 0, false, kTokens), 11},
                    {"gguf:q8_0", "Q8_0", of(kInt4, 0, false, kTokens), 11},
                    {"gguf", "Q8_0", of(kInt8, 0, false, kTokens), 11},
                    {"gguf:q4_k", "Q4_K", of(kUint4Grouped, 128, false, kTokens), 11},
                    {"gguf:q4_k", "Q4_K", of(kUint4Grouped, 32, false, kTokens), 11},
                    {"gguf", "Q4_K", of(kUint4Grouped, 64, false, kTokens), 11},
                    {"gguf", "Q4_K", of(kUint4Grouped, 256, true, kTokens), 11},
                    {"gguf", "Q4_0", of(kUint4Float, 32, false, kFloats), 11},
                    {"gguf", "Q8_0", of(kUint4Float, 32, true, kFloats), 7},
                    {"gguf:f32", "F32", of(kUint4Grouped, 64, true, kFloats), 11}};
  for (const auto& c : list) {
    const QuantizedLinear linear = layer(c.options, c.scale_bits);
    SCOPED_TRACE(fmt::format("{} {}", c.target, describe(linear)));
    const WrittenLinear written = write(c.target, linear);
    EXPECT_EQ(written.scheme, c.type);
    EXPECT_EQ(written.rounding.changed, 0);
    if (written.scheme == "F32") {
      EXPECT_EQ(to_floats(written.tensors.at(0).second.view()), dequantize(linear));
    } else {
      EXPECT_EQ(decoded(written, linear.n, linear.k), dequantize(linear));
    }
  }
}

TEST(Writers, GgufTakesDivisorsOfAUnitAndTurnsCodesAround) {
  // All group scales are 3: the unit 3 s has 13 bits, s has 11.
  QuantizedLinear linear = layer(of(kUint4Grouped, 32, false, kTokens), 11);
  std::ranges::fill(linear.group_scale.as<int8_t>(), int8_t{3});
  EXPECT_EQ(decoded(write("gguf:q4_k", linear), linear.n, linear.k), dequantize(linear));
  // 6 bits end at 63.
  linear.qweight =
      pack_int4(std::vector<int8_t>(static_cast<size_t>(linear.n * linear.k), 9), linear.n, linear.k);
  linear.group_scale.as<int8_t>()[0] = 63;
  linear.group_scale.as<int8_t>()[1] = 1;
  EXPECT_EQ(error_of("gguf:q4_k", linear), "no error");
  linear.group_scale.as<int8_t>()[0] = 64;
  EXPECT_THAT(error_of("gguf:q4_k", linear), HasSubstr("no integers of 6 bits times one number"));
  // A zero point of 7 is one of 8, turned around; others are none.
  linear = layer(of(kUint4Float, 32, true, kFloats), 7);
  std::ranges::fill(linear.group_zero.as<uint8_t>(), uint8_t{7});
  EXPECT_EQ(decoded(write("gguf:q4_0", linear), linear.n, linear.k), dequantize(linear));
  std::ranges::fill(linear.group_zero.as<uint8_t>(), uint8_t{6});
  EXPECT_THAT(error_of("gguf:q4_0", linear), HasSubstr("Q4_0 has no zero point, output 0, group 0 has 6"));
}

TEST(Writers, ActOrderIsKeptByGptqAlone) {
  QuantizedLinear linear = layer(of(kUint4Float, 32, true, kFloats), 7);
  std::vector<int32_t> order(static_cast<size_t>(linear.k));
  for (int64_t i = 0; i < linear.k; ++i) {  // every eighth input, so that a group's inputs ascend
    order[static_cast<size_t>(i)] = static_cast<int32_t>(i % 32 * 8 + i / 32);
  }
  linear.input_index = Tensor::from<int32_t>(order, {linear.k});
  const WrittenLinear written = write("gptq_v2", linear);
  EXPECT_EQ(written.scheme.at("desc_act"), true);
  expect_same_bytes(read_back("gptq_v2", written, {linear.n, linear.k}), linear);
  for (const char* target : {"awq", "compressed-tensors", "gguf"})
    EXPECT_THAT(error_of(target, linear), HasSubstr("order of inputs (act-order); --to gptq")) << target;
  EXPECT_EQ(to_floats(write("hf", linear).tensors.at(0).second.view()), input_weights(linear));
  // One scale an output: the order is none.
  linear = layer(of(kInt4, 0, false, kFloats), 7);
  linear.input_index = Tensor::from<int32_t>(order, {linear.k});
  EXPECT_EQ(to_floats(write("hf", linear).tensors.at(0).second.view()), input_weights(linear));
  EXPECT_TRUE(read_back("awq", write("awq", linear), {linear.n, linear.k}).input_index.empty());
}

TEST(Writers, LargerGroupsBecomeSmallerOnes) {
  const QuantizedLinear linear = layer(of(kUint4Float, 128, true, kFloats), 7);
  const QuantizedLinear found = read_back("awq", write("awq", linear, false, 32), {linear.n, linear.k});
  EXPECT_EQ(found.group_size, 32);
  EXPECT_EQ(dequantize(found), dequantize(linear));
  EXPECT_THAT(error_of("awq", linear, false, 256),
              HasSubstr("groups of 128 inputs cannot be written as groups of 256"));
}

TEST(Writers, PartsWithoutAPlaceAreRefused) {
  const auto expect = [](const char* target, const LayerOptions& options, const char* text) {
    EXPECT_THAT(error_of(target, layer(options, 7)), HasSubstr(text)) << target;
  };
  LayerOptions outliers = of(kInt4, 0, false, kTokens);
  outliers.outliers = 8;
  LayerOptions repeat = of(kInt4, 0, false, {.bits = 4});
  repeat.repeat = true;
  for (const char* target : {"awq", "compressed-tensors", "gguf", "gptq", "gptq_v2", "hf", "qqq"}) {
    expect(target, outliers, "--set outliers.count=0");
    expect(target, repeat, "--set reassemble=off");
  }
  expect("awq", of(kInt8, 0, false, kFloats), "awq holds codes of 4 bits, the layer has 8");
  expect("gguf:q4_k", of(kInt8, 0, false, kFloats), "Q4_K holds codes of 4 bits");
  expect("qqq", of(kUint4Grouped, 128, true, kTokens), "has no zero points");
  expect("qqq", of(kUint4Grouped, 64, false, kTokens), "one scale an output or a group of 128");
  expect("qqq", of(kUint4Float, 128, false, kFloats), "quantizes inputs to 8 bits");
  expect("compressed-tensors", of(kInt4, 0, false, {.bits = 6}), "inputs of 6 bits run in tessera alone");
  expect("compressed-tensors", of(kInt4, 0, false, {.symmetric = false}), "no inputs with zero points");
  QuantizedLinear zero = layer(of(kUint4Float, 128, true, kFloats), 7);
  zero.group_zero.as<uint8_t>()[0] = 0;
  EXPECT_THAT(error_of("gptq", zero),
              HasSubstr("the zero point 0 of output 0, group 0 has no sure form in gptq"));
  EXPECT_EQ(error_of("gptq_v2", zero), "no error");
  LayerOptions narrow = of(kInt4, 0, false, kTokens);
  narrow.n = 36;
  expect("awq", narrow, "36 outputs are no multiple of 8");
  expect("qqq", narrow, "QQQ needs multiples of 64");
  EXPECT_THAT([] { find_writer("exl2"); }, testing::ThrowsMessage<Error>(HasSubstr("'exl2' is no format")));
  EXPECT_THAT([] { find_writer("hf:q4_0"); }, testing::ThrowsMessage<Error>(HasSubstr("hf[:f32|f16|bf16]")));
}

TEST(Writers, SettingsDescribeMixedModels) {
  const auto scheme = [](const char* target, const LayerOptions& options) {
    return write(target, layer(options, 7)).scheme;
  };
  const json rows = scheme("gptq", of(kInt4, 0, false, kFloats)),
             groups = scheme("gptq", of(kUint4Grouped, 128, false, kFloats)),
             bytes = scheme("gptq", of(kInt8, 0, false, kFloats));
  const auto config_error = [](const std::vector<LinearScheme>& linears) -> std::string {
    try {
      gptq_config(linears);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(config_error({{"a", rows}, {"b", groups}}),
              HasSubstr("a: has one scale an output, others one a group of 128; --group-size 128"));
  EXPECT_THAT(config_error({{"a", rows}, {"b", bytes}}), HasSubstr("b: has codes of 8 bits, others of 4"));
  const json gptq = gptq_config({{"x.y", groups}, {"x.z", nullptr}});
  EXPECT_EQ(gptq.at("group_size"), 128);
  EXPECT_EQ(gptq.at("dynamic"), json::object({{"-:x\\.z", json::object()}}));
  EXPECT_EQ(awq_config({{"x.y", groups}, {"x.z", nullptr}}).at("modules_to_not_convert"),
            json::array({"x.z"}));

  const json w4 = scheme("compressed-tensors", of(kInt4, 0, false, kTokens)),
             w8 = scheme("compressed-tensors", of(kInt8, 0, false, kTokens));
  const json mixed = compressed_tensors_config({{"a", w4}, {"b", w8}, {"c", nullptr}});
  EXPECT_EQ(mixed.at("format"), "mixed-precision");
  EXPECT_EQ(mixed.at("config_groups").size(), 2u);
  EXPECT_EQ(mixed.at("ignore"), json::array({"c", "lm_head"}));
  const json one = compressed_tensors_config({{"a", w4}, {"b", w4}});
  EXPECT_EQ(one.at("config_groups").at("group_0").at("targets"), json::array({"Linear"}));
}

TEST(Exactly, TellsNumbersOfAType) {
  EXPECT_TRUE(exactly<Half>(2047.0));
  EXPECT_FALSE(exactly<Half>(2049.0));
  EXPECT_TRUE(exactly<Half>(0x1p-24));
  EXPECT_FALSE(exactly<Half>(0x1p-25));
  EXPECT_FALSE(exactly<Half>(1e6));
  EXPECT_TRUE(exactly<BFloat16>(255.0));
  EXPECT_FALSE(exactly<BFloat16>(257.0));
  EXPECT_TRUE(exactly<float>(0x1.fffffep0));
  EXPECT_FALSE(exactly<float>(0x1.ffffffp0));
}

TEST(AwqLayout, PlacesAndOutputsAreInverse) {
  for (int64_t n = 0; n < 32; ++n) EXPECT_EQ(awq::output_at(awq::position(n)), n);
}

}  // namespace
}  // namespace tessera::foreign
