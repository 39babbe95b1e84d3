// Spelling out what empty tensors of a QuantizedLinear mean.
#include "tessera/format/input_map.h"

#include <numeric>

namespace tessera {
namespace {

template <class T>
std::vector<T> copy_of(const Tensor& tensor) {
  const auto values = tensor.as<T>();
  return {values.begin(), values.end()};
}

/// The inputs that are no outliers, ascending.
std::vector<int32_t> kept_inputs(const QuantizedLinear& linear) {
  const auto outliers = linear.outlier_index.as<int32_t>();
  std::vector<int32_t> kept;
  size_t next = 0;
  for (int32_t i = 0; i < linear.k_in(); ++i) {
    if (next < outliers.size() && outliers[next] == i) {
      ++next;
    } else {
      kept.push_back(i);
    }
  }
  return kept;
}

}  // namespace

InputMap::InputMap(const QuantizedLinear& linear)
    : index(linear.input_index.empty() ? kept_inputs(linear) : copy_of<int32_t>(linear.input_index)),
      gain(copy_of<float>(linear.input_gain)),
      offset(copy_of<int32_t>(linear.input_offset)) {
  if (gain.empty()) gain.assign(index.size(), 1.0f);
  if (offset.empty()) {
    offset.resize(static_cast<size_t>(linear.k) + 1);
    std::iota(offset.begin(), offset.end(), 0);
  }
}

}  // namespace tessera
