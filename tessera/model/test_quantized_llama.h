// The tiny LLaMA with every linear of its blocks in random integers. Test code only.
#pragma once

#include <fmt/format.h>

#include "tessera/format/test_linears.h"
#include "tessera/model/test_llama.h"

namespace tessera {

/// Weights in `format`, inputs as `activation` says (symmetric codes, one scale a token, or 16 bits).
inline TestLlama quantized_test_llama(WeightFormat format, const ActivationFormat& activation) {
  TestLlama llama;
  llama.config["quantization_config"] = {{"quant_method", "tessera"},
                                         {"version", 1},
                                         {"recipe", nlohmann::json::object()},
                                         {"activation", to_json(activation)}};
  unsigned seed = 0;
  for (int64_t layer = 0; layer < llama.extent("num_hidden_layers"); ++layer) {
    for (const auto& [name, shape] : llama.linear_shapes()) {
      QuantizedLinear linear = random_linear(format, shape[0], shape[1], /*group_size=*/16, ++seed);
      linear.activation = activation;
      llama.quantized[fmt::format("model.layers.{}.{}", layer, name)] = std::move(linear);
    }
  }
  return llama;
}

}  // namespace tessera
