// config.json: the model's shape, and how it is quantized.
#include "hostile_input.h"
#include "tessera/arch/model_spec.h"
#include "tessera/format/quantization_config.h"

void tessera::read_hostile_input(std::string_view input) {
  const ModelConfig config(parse_json(input, "config.json"), "config.json");
  try {
    read_quantization_config(config);
  } catch (const Error&) {
  }
  make_model_spec(config);
}
