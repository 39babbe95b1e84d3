// Codes of GGUF files.
#include "tessera/format/foreign/affine_weights.h"
#include "tessera/format/foreign/readers.h"
#include "tessera/format/foreign/stored_linear.h"

namespace tessera::foreign {
namespace {

QuantizedLinear read(const Checkpoint& checkpoint, const std::string& prefix) {
  const StoredLinear stored(checkpoint, prefix);
  if (!checkpoint.has_gguf_codes(prefix)) throw Error("{}: has no codes of a GGUF file", stored.where());
  GgufCodes from = checkpoint.gguf_codes(prefix);
  AffineWeights w{.where = stored.where(),
                  .n = from.n,
                  .k = from.k,
                  .groups = from.k / kQ4_0Group,
                  .codes = std::move(from.codes)};
  for (Half scale : from.scales) w.scales.push_back(to_float(scale));
  QuantizedLinear linear = to_quantized_linear(std::move(w), {.bits = 16});
  linear.bias = stored.bias(linear.n);
  return linear;
}

}  // namespace

LinearReader gguf_reader(const JsonNode& /*config*/) {
  return read;
}

}  // namespace tessera::foreign
