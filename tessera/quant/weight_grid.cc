// Rounding to a grid and packing of the codes.
#include "tessera/quant/weight_grid.h"

#include "tessera/base/parallel.h"

namespace tessera {
namespace {

/// Contiguous float32 copy on the CPU, or the tensor itself.
at::Tensor host_floats(const at::Tensor& x) {
  return x.to(at::kCPU, at::kFloat).contiguous();
}

/// Calls body(n, k_begin, k_end, cell) for all runs of columns that share a cell.
template <class Body>
void for_each_run(const WeightGrid& grid, int64_t n_rows, int64_t k, const Body& body) {
  const int64_t run = grid.scheme.group_size > 0 ? grid.scheme.group_size : k;
  parallel_for(n_rows, [&](int64_t n) {
    for (int64_t begin = 0; begin < k; begin += run) body(n, begin, begin + run, grid.cell(n, begin));
  });
}

Tensor to_host_tensor(const at::Tensor& x) {
  const at::Tensor host = host_floats(x);
  return Tensor::from(std::span<const float>(host.data_ptr<float>(), static_cast<size_t>(host.numel())),
                      host.sizes().vec());
}

Tensor pack_codes(const WeightGrid& grid, const at::Tensor& codes) {
  const int64_t n = codes.size(0), k = codes.size(1);
  const std::span<const int8_t> values(codes.data_ptr<int8_t>(), static_cast<size_t>(n * k));
  if (grid.scheme.bits == 8) return Tensor::from(values, {n, k});
  if (grid.scheme.group_size == 0) return pack_int4(values, n, k);
  const at::Tensor offset = codes + 8;
  return pack_int4({offset.data_ptr<int8_t>(), values.size()}, n, k);
}

Tensor to_int8_tensor(const at::Tensor& x) {
  const at::Tensor host = x.to(at::kChar).contiguous();
  return Tensor::from(std::span<const int8_t>(host.data_ptr<int8_t>(), static_cast<size_t>(host.numel())),
                      host.sizes().vec());
}

/// sum_k w8[n, k]
Tensor row_sums(const WeightGrid& grid, const at::Tensor& codes) {
  const int64_t n = codes.size(0), k = codes.size(1);
  at::Tensor w8 = codes.to(at::kInt);
  if (grid.scheme.group_size > 0) {
    w8 = w8.view({n, -1, grid.scheme.group_size}) * grid.group_scale.to(at::kInt).unsqueeze(2);
  }
  const at::Tensor sums = w8.reshape({n, k}).sum({1}, /*keepdim=*/false, at::kInt);
  return Tensor::from(std::span<const int32_t>(sums.data_ptr<int32_t>(), static_cast<size_t>(n)), {n});
}

}  // namespace

GridCell grouped_cell(float scale, float group_scale) {
  const int integer = static_cast<int>(group_scale);
  return {scale * group_scale, static_cast<float>(std::max(-8, -(128 / integer))),
          static_cast<float>(std::min(7, 127 / integer))};
}

GridCell WeightGrid::cell(int64_t n, int64_t k) const {
  const float row = scale.data_ptr<float>()[n];
  if (scheme.group_size == 0) {
    const float limit = scheme.bits == 8 ? 127 : 7;
    return {row, -limit, limit};
  }
  const float group = group_scale.data_ptr<float>()[n * group_scale.size(1) + k / scheme.group_size];
  return grouped_cell(row, group);
}

at::Tensor round_to_grid(const WeightGrid& grid, const at::Tensor& weight) {
  const at::Tensor host = host_floats(weight);
  const int64_t n_rows = host.size(0), k = host.size(1);
  at::Tensor codes = at::empty({n_rows, k}, at::kChar);
  const float* w = host.data_ptr<float>();
  int8_t* q = codes.data_ptr<int8_t>();
  for_each_run(grid, n_rows, k, [&](int64_t n, int64_t begin, int64_t end, const GridCell& cell) {
    for (int64_t i = n * k + begin; i < n * k + end; ++i) q[i] = static_cast<int8_t>(cell.code(w[i]));
  });
  return codes;
}

at::Tensor dequantize(const WeightGrid& grid, const at::Tensor& codes) {
  at::Tensor w8 = codes.to(at::kFloat);
  if (grid.scheme.group_size > 0) {
    w8.view({w8.size(0), -1, grid.scheme.group_size}).mul_(grid.group_scale.unsqueeze(2));
  }
  return w8.mul_(grid.scale.unsqueeze(1));
}

at::Tensor fake_quantize_weight(const WeightGrid& grid, const at::Tensor& weight) {
  return dequantize(grid, round_to_grid(grid, weight)).to(weight.device());
}

QuantizedLinear make_quantized_linear(const WeightGrid& grid, const at::Tensor& codes,
                                      const ActivationFormat& activation, const at::Tensor& bias,
                                      float input_scale) {
  QuantizedLinear linear;
  linear.n = codes.size(0);
  linear.k = codes.size(1);
  linear.group_size = grid.scheme.group_size;
  linear.weight_format = grid.scheme.bits == 8        ? WeightFormat::kInt8
                         : grid.scheme.group_size > 0 ? WeightFormat::kUint4Grouped
                                                      : WeightFormat::kInt4;
  linear.activation = activation;
  linear.qweight = pack_codes(grid, codes);
  linear.scale = to_host_tensor(grid.scale);
  if (grid.scheme.group_size > 0) linear.group_scale = to_int8_tensor(grid.group_scale);
  if (!activation.symmetric) linear.row_sum = row_sums(grid, codes);
  if (bias.defined()) linear.bias = to_host_tensor(bias);
  if (!activation.per_token) linear.input_scale = Tensor::from(std::span<const float>(&input_scale, 1), {1});
  return linear;
}

}  // namespace tessera
