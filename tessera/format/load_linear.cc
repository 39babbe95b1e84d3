// Loading linears.
#include "tessera/format/load_linear.h"

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera {
namespace {

/// Where codes stand: ours, GPTQ's and AWQ's; QQQ's; compressed-tensors' in packed form.
constexpr const char* kCodes[] = {".qweight", ".B", ".weight_packed"};

}  // namespace

bool is_quantized(const Checkpoint& checkpoint, const std::string& prefix) {
  if (std::ranges::any_of(kCodes, [&](const char* name) { return checkpoint.contains(prefix + name); }))
    return true;
  if (checkpoint.has_gguf_codes(prefix)) return true;
  const auto weight = checkpoint.tensors().find(prefix + ".weight");  // compressed-tensors', one code a byte
  return weight != checkpoint.tensors().end() && weight->second.dtype == DType::kI8;
}

QuantizedLinear load_quantized_linear(const Checkpoint& checkpoint, const std::string& prefix,
                                      const QuantizationConfig& config, int64_t n, int64_t k_in) {
  const std::string where = fmt::format("{}: {}", checkpoint.dir().string(), prefix);
  QuantizedLinear l =
      config.read_linear ? config.read_linear(checkpoint, prefix) : read_tensors(checkpoint, prefix);
  if (!config.read_linear) l.activation = config.activation_of(prefix);
  l.validate(where);
  for (const Tensor* index : {&l.input_index, &l.outlier_index}) {
    for (int32_t i : index->as<int32_t>()) {
      if (i < 0 || i >= k_in) throw Error("{}: input index {} is outside 0..{}", where, i, k_in - 1);
    }
  }
  if (l.n != n || l.k_in() != k_in) {
    throw Error("{}: {} outputs of {} inputs, config.json asks for {} of {}", where, l.n, l.k_in(), n, k_in);
  }
  return l;
}

}  // namespace tessera
