// AutoAWQ checkpoints.
#include "tessera/format/foreign/awq_layout.h"
#include "tessera/format/foreign/writing.h"

namespace tessera::foreign {
namespace {

using namespace awq;

/// I32 [rows, N / 8] of value(n, row).
template <class Value>
Tensor packed_rows(int64_t rows, int64_t n, const Value& value) {
  const int64_t words = n / kWordCodes;
  Tensor packed(DType::kI32, {rows, words});
  parallel_blocks(rows, [&](int64_t begin, int64_t end) {
    for (int64_t word = 0; word < words; ++word) {
      for (int64_t row = begin; row < end; ++row) {
        pack_fields(packed.as<int32_t>(), row * words + word, 1, kBits, kWordCodes,
                    [&](int64_t place) { return value(output_at(word * kWordCodes + place), row); });
      }
    }
  });
  return packed;
}

}  // namespace

WrittenLinear write_awq(const QuantizedLinear& linear, const std::string& where,
                        const WriteOptions& options) {
  const AffineWeights w = weights_to_write(linear, where, options);
  expect_4_bits(w, "awq");
  expect_ordered_inputs(w, "awq");
  expect_multiple(w, "outputs", w.n, kWordCodes);
  Narrowing narrowing(where, options.round);
  WrittenLinear out;
  out.tensors.emplace_back("qweight",
                           packed_rows(w.k, w.n, [&](int64_t n, int64_t k) { return code_at(w, n, k); }));
  out.tensors.emplace_back(
      "qzeros", packed_rows(w.groups, w.n, [&](int64_t n, int64_t g) { return zero_at(w, n, g); }));
  out.tensors.emplace_back("scales", transposed_scales(w, narrowing));
  out.scheme = group_scheme(w);
  out.form = describe(w);
  out.rounding = narrowing.rounding();
  return out;
}

nlohmann::json awq_config(const std::vector<LinearScheme>& linears) {
  return {{"quant_method", "awq"}, {"bits", kBits},     {"group_size", common_group_size(linears)},
          {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", float_linears(linears)}};
}

}  // namespace tessera::foreign
