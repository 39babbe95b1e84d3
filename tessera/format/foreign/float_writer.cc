// Dequantized weights.
#include "tessera/format/foreign/writing.h"

namespace tessera::foreign {
namespace {

/// [N, K] of T.
template <class T>
Tensor weights_as(const AffineWeights& w, Narrowing& narrowing) {
  Tensor out(DTypeOf<T>::value, {w.n, w.k});
  for_each_output(w, narrowing, [&](int64_t n, Narrowing& own) {
    const auto row = out.as<T>().subspan(static_cast<size_t>(n * w.k), static_cast<size_t>(w.k));
    for (int64_t k = 0; k < w.k; ++k)
      row[static_cast<size_t>(k)] = own.to<T>(weight_at(w, n, k), "weight", n, "input", k);
  });
  return out;
}

}  // namespace

WrittenLinear write_floats(const QuantizedLinear& linear, const std::string& where,
                           const WriteOptions& options) {
  const AffineWeights w = to_affine_weights(linear, where);
  Narrowing narrowing(where, options.round);
  WrittenLinear out;
  out.tensors.emplace_back("weight", options.variant == "f16"    ? weights_as<Half>(w, narrowing)
                                     : options.variant == "bf16" ? weights_as<BFloat16>(w, narrowing)
                                                                 : weights_as<float>(w, narrowing));
  out.scheme = options.variant;
  out.form = options.variant;
  out.rounding = narrowing.rounding();
  return out;
}

nlohmann::json float_config(const std::vector<LinearScheme>&) {
  return nullptr;
}

}  // namespace tessera::foreign
