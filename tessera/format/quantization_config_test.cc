// Tests of the quantization section: what is written reads back, and refusals.
#include "tessera/format/quantization_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

using nlohmann::json;
using testing::HasSubstr;

ModelConfig with(const json& section) {
  return {{{"quantization_config", section}}, "config.json"};
}

std::string error_of(const json& section) {
  try {
    read_quantization_config(with(section));
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(QuantizationConfig, WhatIsWrittenReadsBack) {
  const QuantizationConfig written{.activation = {.bits = 4, .symmetric = false},
                                   .overrides = {{"down_proj", {.bits = 8}}},
                                   .kv_format = KvFormat::kInt4,
                                   .recipe = {{"name", "mine"}}};
  const auto read = read_quantization_config(with(written.to_json()));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->to_json(), written.to_json());
  EXPECT_EQ(read->activation_of("model.layers.0.mlp.down_proj").bits, 8);
  EXPECT_EQ(read->activation_of("model.layers.0.mlp.up_proj").bits, 4);
}

TEST(QuantizationConfig, FloatModelsHaveNoneAndQqqModelsNoRecipe) {
  EXPECT_FALSE(read_quantization_config(with(nullptr)));
  const auto qqq = read_quantization_config(with({{"quant_method", "qqq"}, {"wbits", 4}}));
  ASSERT_TRUE(qqq);
  EXPECT_TRUE(qqq->read_linear);
  EXPECT_TRUE(qqq->recipe.is_null());
}

TEST(QuantizationConfig, ErrorsNameThePlace) {
  const auto changed = [](const json& change) {
    json section = QuantizationConfig{.activation = {}}.to_json();
    section.update(change);
    return error_of(section);
  };
  EXPECT_EQ(error_of(3), "config.json: quantization_config: expected an object, found number");
  EXPECT_THAT(
      changed({{"quant_method", "fp8"}}),
      HasSubstr("quant_method: \"fp8\" is not readable here (tessera, awq, compressed-tensors, gguf, gptq, "
                "qqq are)"));
  EXPECT_THAT(changed({{"quant_method", nullptr}}), HasSubstr("quant_method: null is not readable here"));
  EXPECT_THAT(changed({{"version", 2}}), HasSubstr("version: 2 is not readable here (1 is)"));
  EXPECT_THAT(changed({{"activation", nullptr}}), HasSubstr("activation: expected an object, found nothing"));
  EXPECT_THAT(changed({{"activation_overrides", {{"down_proj", {{"bits", 3}}}}}}),
              HasSubstr("activation_overrides.down_proj.bits: 3 bits do not exist"));
  EXPECT_THAT(changed({{"kv_bits", 5}}), HasSubstr("kv_bits: keys and values of 5 bits do not exist"));
  EXPECT_THAT(changed({{"kv_bits", "4"}}), HasSubstr("kv_bits: expected an integer, found string"));
  EXPECT_THAT(error_of({{"quant_method", "qqq"}, {"wbits", 8}}), HasSubstr("weights of 8 bits"));
}

}  // namespace
}  // namespace tessera
