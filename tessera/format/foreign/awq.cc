// AutoAWQ checkpoints.
#include <algorithm>

#include "tessera/format/foreign/awq_layout.h"
#include "tessera/format/foreign/packed_fields.h"
#include "tessera/format/foreign/readers.h"
#include "tessera/format/foreign/stored_linear.h"

namespace tessera::foreign {
namespace {

using namespace awq;

QuantizedLinear read(std::optional<int64_t> group_size, const Checkpoint& checkpoint,
                     const std::string& prefix) {
  const StoredLinear stored(checkpoint, prefix);
  AffineWeights w{.where = stored.where(), .bits = kBits};
  const auto [inputs, words] = stored.matrix("qweight");
  w.k = inputs;
  w.n = words * kWordCodes;
  w.groups = stored.matrix("scales").first;
  const auto code_of = [&w, words = words](std::span<const int32_t> row_words, int64_t row, int64_t n) {
    return PackedFields(row_words, row * words, 1, w.bits)[position(n)];
  };
  const auto codes = stored.values<int32_t>("qweight", {inputs, words});
  const auto zeros = stored.values<int32_t>("qzeros", {w.groups, words});
  fill_codes(w, [&](int64_t n, int64_t k) { return code_of(codes, k, n); });
  fill_zeros(w, [&](int64_t n, int64_t g) { return code_of(zeros, g, n); });
  transpose_scales(w, stored.floats("scales", {w.groups, w.n}));
  check_group_size(w.where, group_size, w.k, w.groups);
  QuantizedLinear linear = to_quantized_linear(std::move(w), {.bits = 16});
  linear.bias = stored.bias(linear.n);
  return linear;
}

}  // namespace

LinearReader awq_reader(const JsonNode& section) {
  const JsonNode bits = section["bits"], version = section["version"], backend = section["backend"];
  if (bits.get<int>() != kBits) bits.fail("codes of {} bits are not readable here (4 are)", bits.shown());
  if (!version.is_null()) version.choice<int>({{"gemm", 0}, {"GEMM", 0}});
  if (!backend.is_null()) backend.choice<int>({{"autoawq", 0}});
  std::optional<int64_t> group_size;
  for (const char* key : {"q_group_size", "group_size"}) {
    if (const JsonNode size = section[key]; !size.is_null()) group_size = size.get<int64_t>();
  }
  return [group_size](const Checkpoint& checkpoint, const std::string& prefix) {
    return read(group_size, checkpoint, prefix);
  };
}

}  // namespace tessera::foreign
