// Rounding to a grid and packing of the codes.
#include "tessera/quant/grid/weight_grid.h"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "tessera/base/dyadic.h"
#include "tessera/base/parallel.h"
#include "tessera/quant/block/tensor_bridge.h"

namespace tessera {
namespace {

constexpr float kMiddle = 8;  ///< the zero point of symmetric groups

/// Contiguous float32 copy on the CPU, or the tensor itself.
at::Tensor host_floats(const at::Tensor& x) {
  return x.to(at::kCPU, at::kFloat).contiguous();
}

/// Calls body(n, k_begin, k_end, cell) for all inputs that share a cell.
template <class Body>
void for_each_cell(const WeightGrid& grid, int64_t outputs, int64_t k, const Body& body) {
  const CellTable table(grid);
  const int64_t size = k / table.groups();
  parallel_for(outputs, [&](int64_t n) {
    for (int64_t g = 0; g < table.groups(); ++g) body(n, g * size, (g + 1) * size, table.cell(n, g));
  });
}

/// Float32 on the CPU.
at::Tensor float_tensor(const Tensor& tensor) {
  const auto copied = [&](const auto& values) {
    at::Tensor floats = at::empty(tensor.shape(), at::kFloat);
    std::ranges::copy(values, floats.data_ptr<float>());
    return floats;
  };
  if (tensor.dtype() == DType::kI8) return copied(tensor.as<int8_t>());
  if (tensor.dtype() == DType::kU8) return copied(tensor.as<uint8_t>());
  return copied(tensor.as<float>());
}

/// Float32 codes on the weight's device.
at::Tensor device_codes(const WeightGrid& grid, const at::Tensor& weight) {
  const GridCells cells = grid.cells();
  const auto there = [&](const at::Tensor& values) { return values.to(weight.device()); };
  return nearest_codes(weight, {there(cells.step), there(cells.lo), there(cells.hi)});
}

/// Codes as WeightFormat stores them: uint4 codes with their zero point added.
Tensor pack_codes(const WeightGrid& grid, const at::Tensor& codes) {
  const int64_t n = codes.size(0), k = codes.size(1);
  const auto values = [&](const at::Tensor& t) {
    return std::span<const int8_t>(t.data_ptr<int8_t>(), static_cast<size_t>(n * k));
  };
  if (grid.scheme.bits > 4) return Tensor::from(values(codes), {n, k});
  if (grid.scheme.group_size == 0 && !grid.zero.defined()) return pack_int4(values(codes), n, k);
  at::Tensor offset = codes.clone();
  if (grid.zero.defined()) {
    offset.view({n, grid.zero.size(1), -1}).add_(grid.zero.to(at::kChar).unsqueeze(2));
  } else {
    offset.add_(static_cast<int8_t>(kMiddle));
  }
  return pack_int4(values(offset), n, k);
}

/// Integer values as `T`, int8_t or uint8_t.
template <class T>
Tensor to_byte_tensor(const at::Tensor& x) {
  const at::Tensor host = x.to(c10::CppTypeToScalarType<T>::value).contiguous();
  return Tensor::from(std::span<const T>(host.data_ptr<T>(), static_cast<size_t>(host.numel())),
                      host.sizes().vec());
}

/// sum_k w8[n, k]
Tensor row_sums(const QuantizedLinear& linear, const at::Tensor& codes) {
  at::Tensor w8 = codes.to(at::kInt);
  if (linear.groups() > 0) {
    at::Tensor scales = at::empty({linear.n, linear.groups()}, at::kChar);
    std::ranges::copy(linear.group_scale.as<int8_t>(), scales.data_ptr<int8_t>());
    w8 = w8.view({linear.n, -1, linear.group_size}) * scales.to(at::kInt).unsqueeze(2);
  }
  const at::Tensor sums = w8.reshape({linear.n, linear.k}).sum({1}, /*keepdim=*/false, at::kInt);
  return Tensor::from(std::span<const int32_t>(sums.data_ptr<int32_t>(), static_cast<size_t>(linear.n)),
                      {linear.n});
}

/// A common divisor of an output's group scales moves into its scale where that stays exact. Weights are the
/// same numbers; this way of writing them is the one that readers of products find, so that a model comes
/// back from another format as it was.
void move_common_divisors(QuantizedLinear& linear) {
  const auto groups = static_cast<size_t>(linear.groups());
  const std::span<float> scales = linear.scale.as<float>();
  for (size_t n = 0; n < scales.size(); ++n) {
    const auto own = linear.group_scale.as<int8_t>().subspan(n * groups, groups);
    const int divisor =
        std::accumulate(own.begin(), own.end(), 0, [](int a, int b) { return std::gcd(a, b); });
    const auto scale = exactly<float>(double{scales[n]} * divisor);
    if (!scale) continue;
    scales[n] = *scale;
    for (int8_t& group : own) group = static_cast<int8_t>(group / divisor);
  }
}

}  // namespace

GridCells WeightGrid::cells() const {
  const float largest = static_cast<float>((1 << scheme.bits) - 1);
  const bool grouped = scheme.group_size > 0;
  const at::Tensor step = grouped ? scale.unsqueeze(1) * group_scale : scale.unsqueeze(1);
  if (!grouped && !zero.defined()) {
    const at::Tensor reach = at::full_like(step, (largest - 1) / 2);
    return {step, -reach, reach};
  }
  const at::Tensor z = zero.defined() ? zero : at::full_like(step, kMiddle);
  if (!grouped) return {step, -z, largest - z};
  const at::Tensor reach = (127 / group_scale).floor_();
  return {step, at::maximum(-z, -reach), at::minimum(largest - z, reach)};
}

CellTable::CellTable(const WeightGrid& grid)
    : cells_(grid.cells()),
      step_(cells_.step.data_ptr<float>()),
      lo_(cells_.lo.data_ptr<float>()),
      hi_(cells_.hi.data_ptr<float>()),
      groups_(cells_.step.size(1)) {}

at::Tensor round_to_grid(const WeightGrid& grid, const at::Tensor& weight) {
  if (!weight.is_cpu()) return device_codes(grid, weight).to(at::kChar).cpu();
  const at::Tensor host = host_floats(weight);
  const int64_t n_rows = host.size(0), k = host.size(1);
  at::Tensor codes = at::empty({n_rows, k}, at::kChar);
  const float* w = host.data_ptr<float>();
  int8_t* q = codes.data_ptr<int8_t>();
  for_each_cell(grid, n_rows, k, [&](int64_t n, int64_t begin, int64_t end, const GridCell& cell) {
    for (int64_t i = n * k + begin; i < n * k + end; ++i) q[i] = static_cast<int8_t>(cell.code(w[i]));
  });
  return codes;
}

at::Tensor dequantize(const WeightGrid& grid, const at::Tensor& codes) {
  at::Tensor w8 = codes.to(at::kFloat);
  if (grid.scheme.group_size > 0) {
    w8.view({w8.size(0), -1, grid.scheme.group_size}).mul_(grid.group_scale.to(codes.device()).unsqueeze(2));
  }
  return w8.mul_(grid.scale.to(codes.device()).unsqueeze(1));
}

at::Tensor fake_quantize_weight(const WeightGrid& grid, const at::Tensor& weight) {
  return dequantize(grid, weight.is_cpu() ? round_to_grid(grid, weight) : device_codes(grid, weight));
}

WeightGrid grid_of(const QuantizedLinear& linear) {
  assert(linear.weight_format != WeightFormat::kUint4Float);
  WeightGrid grid;
  grid.scheme = {weight_bits(linear.weight_format), linear.group_size, linear.group_zero.empty()};
  grid.scale = float_tensor(linear.scale);
  if (!linear.group_scale.empty()) grid.group_scale = float_tensor(linear.group_scale);
  if (!linear.group_zero.empty()) grid.zero = float_tensor(linear.group_zero);
  return grid;
}

at::Tensor codes_of(const QuantizedLinear& linear) {
  const std::vector<int64_t> shape{linear.n, linear.k};
  if (linear.weight_format == WeightFormat::kInt8) {
    at::Tensor codes = at::empty(shape, at::kChar);
    std::ranges::copy(linear.qweight.as<int8_t>(), codes.data_ptr<int8_t>());
    return codes;
  }
  const std::vector<int8_t> values = unpack_int4(linear.qweight, linear.n, linear.k, linear.weight_format);
  at::Tensor codes = at::empty(shape, at::kChar);
  std::ranges::copy(values, codes.data_ptr<int8_t>());
  if (linear.weight_format == WeightFormat::kInt4) return codes;
  const at::Tensor zero = linear.group_zero.empty() ? at::full({linear.n, linear.groups()}, kMiddle)
                                                    : float_tensor(linear.group_zero);
  codes.view({linear.n, linear.groups(), -1}).sub_(zero.to(at::kChar).unsqueeze(2));
  return codes;
}

void replace_codes(QuantizedLinear& linear, const at::Tensor& codes) {
  linear.qweight = pack_codes(grid_of(linear), codes);
  if (!linear.row_sum.empty()) linear.row_sum = row_sums(linear, codes);
}

QuantizedLinear make_quantized_linear(const WeightGrid& grid, const at::Tensor& codes,
                                      const ActivationFormat& activation, const at::Tensor& bias,
                                      float input_scale) {
  QuantizedLinear linear;
  linear.n = codes.size(0);
  linear.k = codes.size(1);
  linear.group_size = grid.scheme.group_size;
  at::Tensor group_scale = grid.group_scale;
  if (grid.zero.defined() && grid.scheme.bits == 4) {
    if (linear.group_size == 0) {  // an output's zero point is that of one group of scale 1
      linear.group_size = linear.k;
      group_scale = at::ones({linear.n, 1});
    }
    linear.group_zero = to_byte_tensor<uint8_t>(grid.zero);
  }
  if (group_scale.defined()) linear.group_scale = to_byte_tensor<int8_t>(group_scale);
  linear.weight_format = grid.scheme.bits > 4    ? WeightFormat::kInt8
                         : linear.group_size > 0 ? WeightFormat::kUint4Grouped
                                                 : WeightFormat::kInt4;
  linear.activation = activation;
  linear.qweight = pack_codes(grid, codes);
  linear.scale = to_host_tensor(grid.scale);
  if (linear.weight_format == WeightFormat::kUint4Grouped) move_common_divisors(linear);
  if (!activation.symmetric) linear.row_sum = row_sums(linear, codes);
  if (bias.defined()) linear.bias = to_host_tensor(bias);
  if (!activation.per_token) linear.input_scale = Tensor::from(std::span<const float>(&input_scale, 1), {1});
  return linear;
}

}  // namespace tessera
