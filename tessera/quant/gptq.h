// GPTQ: rounds a linear's columns one after the other and lets the later columns make up for the error, as
// the second moments of the inputs say.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "tessera/quant/weight_grid.h"

namespace tessera {

/// The inverse of a damped Hessian as GPTQ consumes it. Linears that share an input share it.
struct HessianFactor {
  at::Tensor
      upper;  ///< [K, K] float32, upper triangular: inverse Hessian = upper^T upper, columns in `order`
  at::Tensor order;    ///< [K] int64: the input column that each position stands for
  at::Tensor dead;     ///< [K] bool, natural order: inputs that were always zero
  double damping = 0;  ///< added to the diagonal, relative to its mean
};

/// Factors hessian [K, K] in double precision. With act_order the columns go by falling diagonal. When the
/// matrix is not positive definite `damping` grows tenfold, at most three times; then nullopt.
std::optional<HessianFactor> factor_hessian(const at::Tensor& hessian, double damping, bool act_order);

/// Bytes that factor_hessian holds at its peak for K inputs, its result included.
constexpr size_t factor_bytes(int64_t k) {
  return static_cast<size_t>(k * k) * (6 * sizeof(double) + sizeof(float));
}

struct GptqResult {
  at::Tensor codes;  ///< I8 [N, K], CPU, natural order of columns
  double loss = 0;   ///< sum of (w - q)^2 / (2 U_ii^2)
};

/// Quantizes weight [N, K] to `grid` ("GPTQ", algorithm 1; static groups: `grid` belongs to natural columns).
/// Dead columns get code 0. block_size only moves work between the inner loop and matrix products.
GptqResult gptq(const at::Tensor& weight, const WeightGrid& grid, const HessianFactor& factor,
                int64_t block_size = 128);

}  // namespace tessera
