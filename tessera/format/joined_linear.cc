// Joining layers: everything that has a row an output is concatenated.
#include "tessera/format/joined_linear.h"

#include <algorithm>
#include <cassert>
#include <numeric>

namespace tessera {
namespace {

using Field = Tensor QuantizedLinear::*;

constexpr Field kOutputFields[] = {&QuantizedLinear::qweight,       &QuantizedLinear::scale,
                                   &QuantizedLinear::group_scale,   &QuantizedLinear::group_zero,
                                   &QuantizedLinear::row_sum,       &QuantizedLinear::bias,
                                   &QuantizedLinear::outlier_weight};
/// What is the same in all parts.
constexpr Field kInputFields[] = {&QuantizedLinear::input_scale,  &QuantizedLinear::outlier_index,
                                  &QuantizedLinear::input_index,  &QuantizedLinear::input_gain,
                                  &QuantizedLinear::input_offset, &QuantizedLinear::input_repeat};

}  // namespace

bool can_join(const QuantizedLinear& a, const QuantizedLinear& b) {
  const auto both = [&](Field field) { return (a.*field).empty() == (b.*field).empty(); };
  return a.weight_format == b.weight_format && a.group_size == b.group_size &&
         std::ranges::all_of(kOutputFields, both) && same_input(a, b);
}

Tensor join_field(std::span<const QuantizedLinear* const> parts, Tensor QuantizedLinear::*field) {
  const Tensor& first = parts[0]->*field;
  if (first.empty()) return {};
  Shape shape = first.shape();
  shape[0] = 0;
  for (const QuantizedLinear* part : parts) shape[0] += (part->*field).shape()[0];
  Tensor out(first.dtype(), shape);
  std::byte* to = out.data();
  for (const QuantizedLinear* part : parts) {
    const Tensor& from = part->*field;
    to = std::copy_n(from.data(), from.bytes(), to);
  }
  return out;
}

QuantizedLinear join_outputs(std::span<const QuantizedLinear* const> parts) {
  assert(!parts.empty());
  const QuantizedLinear& first = *parts[0];
  QuantizedLinear joined;
  joined.k = first.k;
  joined.group_size = first.group_size;
  joined.weight_format = first.weight_format;
  joined.activation = first.activation;
  for (Field field : kInputFields) {
    if (!(first.*field).empty()) joined.*field = Tensor((first.*field).view());
  }
  for (Field field : kOutputFields) joined.*field = join_field(parts, field);
  joined.n = outputs_of(parts);
  return joined;
}

int64_t outputs_of(std::span<const QuantizedLinear* const> parts) {
  return std::accumulate(parts.begin(), parts.end(), int64_t{0},
                         [](int64_t n, const QuantizedLinear* part) { return n + part->n; });
}

}  // namespace tessera
