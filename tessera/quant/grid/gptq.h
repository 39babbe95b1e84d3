// GPTQ: rounds a linear's columns one after the other and lets the later columns make up for the error, as
// the second moments of the inputs say. Outlier columns come last and are never rounded.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "tessera/quant/grid/outliers.h"
#include "tessera/quant/grid/weight_grid.h"

namespace tessera {

/// The inverse of a damped Hessian as GPTQ consumes it. Linears that share an input share it.
struct HessianFactor {
  at::Tensor
      upper;  ///< [K, K] float32, upper triangular: inverse Hessian = upper^T upper, columns in `order`
  at::Tensor order;      ///< [K] int64: the input column that each position stands for
  at::Tensor dead;       ///< [K] bool, natural order: quantized inputs that were always zero
  int64_t outliers = 0;  ///< F: the last positions, which stay in floating point
  double damping = 0;    ///< added to the diagonal, relative to its mean
};

/// Factors hessian [K, K] in double precision. The columns to quantize go by falling diagonal with act_order,
/// else, where there are outliers, in the order of `split` (quiet channels first: "QUIK"), else as they are;
/// outliers follow. When the matrix is not positive definite `damping` grows tenfold, at most three times;
/// then nullopt.
std::optional<HessianFactor> factor_hessian(const at::Tensor& hessian, double damping, bool act_order,
                                            const OutlierSplit& split = {});

/// Bytes that factor_hessian holds at its peak for K inputs, its result included.
constexpr size_t factor_bytes(int64_t k) {
  return static_cast<size_t>(k * k) * (6 * sizeof(double) + sizeof(float));
}

struct GptqOptions {
  int64_t block_size =
      128;  ///< only moves work between the inner loop and matrix products; on a GPU at most 128
  /// Two of four columns that follow each other in the factor's order become zero, those that cost least
  /// ("SparseGPT", 2:4), and their error is made up for like any other. The codes then come in that order.
  /// Needs one scale an output and a multiple of four columns.
  bool sparse = false;
};

struct GptqResult {
  at::Tensor codes;  ///< I8 [N, K - F], on the weight's device; natural order of columns, or the factor's
                     ///< when sparse
  at::Tensor outlier_weight;  ///< float32 [N, F], ascending columns: they have made up for the others' errors
  double loss = 0;            ///< sum of (w - q)^2 / (2 U_ii^2)
};

/// Quantizes weight [N, K] to `grid` ("GPTQ", algorithm 1; "QUIK", GPTQ that ends at the outliers; static
/// groups: `grid` belongs to the quantized columns in natural order). Dead columns get code 0.
GptqResult gptq(const at::Tensor& weight, const WeightGrid& grid, const HessianFactor& factor,
                const GptqOptions& options = {});

}  // namespace tessera
