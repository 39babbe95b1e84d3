// The tiny LLaMA with every linear of its blocks in random integers. Test code only.
#pragma once

#include <fmt/format.h>

#include "tessera/format/quantization_config.h"
#include "tessera/format/random_layer.h"
#include "tessera/model/test_llama.h"

namespace tessera {

/// Codes of 8 bits, one scale a token.
inline const nlohmann::json kTokenActivation = {{"bits", 8}, {"symmetric", true}, {"scale", "per_token"}};

/// Quantizes every linear of `llama` at random, to weights of at most 0.6; `down` is the input of down_proj.
inline void quantize(TestLlama& llama, WeightFormat format, const nlohmann::json& activation,
                     const nlohmann::json& down, int64_t group_size = 16) {
  const ActivationFormat format_of_down = activation_format_from_json({down, "test"}),
                         format_of_others = activation_format_from_json({activation, "test"});
  llama.config["quantization_config"] = QuantizationConfig{
      .activation = format_of_others,
      .overrides = {
          {"down_proj", format_of_down}}}.to_json();
  const float largest_code = format == WeightFormat::kInt4 ? 8 : 128;
  const bool grouped = format == WeightFormat::kUint4Grouped || format == WeightFormat::kUint4Float;
  unsigned seed = 0;
  for (int64_t layer = 0; layer < llama.extent("num_hidden_layers"); ++layer) {
    for (const auto& [name, shape] : llama.linear_shapes()) {
      QuantizedLinear linear =
          random_layer({.format = format,
                        .n = shape[0],
                        .k = shape[1],
                        .group_size = grouped ? group_size : 0,
                        .activation = name == "mlp.down_proj" ? format_of_down : format_of_others},
                       ++seed);
      for (float& scale : linear.scale.as<float>()) {
        scale = 0.3f / largest_code * static_cast<float>(1.5 + 0.5 * llama.uniform());
      }
      llama.quantized[fmt::format("model.layers.{}.{}", layer, name)] = std::move(linear);
    }
  }
}

/// The default one in `format`, all inputs as `activation`.
inline TestLlama quantized_test_llama(WeightFormat format, const ActivationFormat& activation) {
  TestLlama llama;
  quantize(llama, format, to_json(activation), to_json(activation));
  return llama;
}

}  // namespace tessera
