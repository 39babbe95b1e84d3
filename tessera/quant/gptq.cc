// The column loop of GPTQ: rows in parallel inside a block, one matrix product for the columns behind it.
#include "tessera/quant/gptq.h"

#include <cmath>
#include <vector>

#include "tessera/base/parallel.h"

namespace tessera {
namespace {

constexpr int kDampingRetries = 3;

/// U with U^T U = matrix^-1, or nullopt. The Cholesky factor of the reversed matrix, reversed again, is an
/// upper V with V V^T = matrix, and U is its inverse: one factorization instead of two and an inversion.
std::optional<at::Tensor> inverse_factor(const at::Tensor& matrix) {
  const auto [lower, info] = at::linalg_cholesky_ex(matrix.flip({0, 1}));
  if (info.item<int64_t>() != 0) return std::nullopt;
  const at::Tensor upper = lower.flip({0, 1});
  const at::Tensor identity = at::eye(matrix.size(0), matrix.options());
  at::Tensor inverse = at::linalg_solve_triangular(upper, identity, /*upper=*/true);
  if (!at::isfinite(inverse).all().item<bool>()) return std::nullopt;
  return inverse;
}

/// The columns of one block, row-major on the host.
struct ColumnBlock {
  int64_t count;          ///< columns
  const float* upper;     ///< [count, count]: their part of U
  const int64_t* column;  ///< [count]: natural indices
};

/// Quantizes one row of the block. `w` [count] is used up, `error` receives (w - q) / U_ii. Returns the loss.
double quantize_row(const WeightGrid& grid, const ColumnBlock& block, int64_t n, float* w, float* error,
                    int8_t* codes) {
  double loss = 0;
  for (int64_t i = 0; i < block.count; ++i) {
    const float* u = block.upper + i * block.count;
    const GridCell cell = grid.cell(n, block.column[i]);
    const float code = cell.code(w[i]);
    const float e = (w[i] - code * cell.step) / u[i];
    codes[block.column[i]] = static_cast<int8_t>(code);
    error[i] = e;
    loss += 0.5 * double{e} * e;
    for (int64_t j = i + 1; j < block.count; ++j) w[j] -= e * u[j];
  }
  return loss;
}

}  // namespace

std::optional<HessianFactor> factor_hessian(const at::Tensor& hessian, double damping, bool act_order) {
  HessianFactor factor;
  at::Tensor h = hessian.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  at::Tensor diagonal = h.diagonal();
  factor.dead = diagonal == 0;
  diagonal.masked_fill_(factor.dead, 1);
  factor.order = act_order ? at::argsort(diagonal, /*stable=*/true, 0, /*descending=*/true)
                           : at::arange(h.size(0), h.options().dtype(at::kLong));
  diagonal.reset();  // it would keep the matrix in natural order alive
  h = h.index_select(0, factor.order).index_select(1, factor.order);
  const double mean = h.diagonal().mean().item<double>();
  double added = 0;
  for (int attempt = 0; attempt <= kDampingRetries; ++attempt, damping *= 10) {
    h.diagonal().add_((damping - added) * mean);
    added = damping;
    if (const auto upper = inverse_factor(h)) {
      factor.upper = upper->to(at::kFloat);
      factor.damping = damping;
      return factor;
    }
  }
  return std::nullopt;
}

GptqResult gptq(const at::Tensor& weight, const WeightGrid& grid, const HessianFactor& factor,
                int64_t block_size) {
  const int64_t n_rows = weight.size(0), k = weight.size(1);
  at::Tensor work = weight.masked_fill(factor.dead, 0).index_select(1, factor.order);
  const at::Tensor order = factor.order.to(at::kCPU);
  GptqResult result{at::empty({n_rows, k}, at::kChar)};
  int8_t* codes = result.codes.data_ptr<int8_t>();
  std::vector<double> row_loss(static_cast<size_t>(n_rows));
  for (int64_t begin = 0; begin < k; begin += block_size) {
    const int64_t count = std::min(block_size, k - begin), rest = k - begin - count;
    const at::Tensor upper = factor.upper.narrow(0, begin, count);
    const at::Tensor inner = upper.narrow(1, begin, count).to(at::kCPU).contiguous();
    const at::Tensor columns = work.narrow(1, begin, count).to(at::kCPU, false, true).contiguous();
    const at::Tensor errors = at::empty_like(columns);
    const ColumnBlock block{count, inner.data_ptr<float>(), order.data_ptr<int64_t>() + begin};
    parallel_for(n_rows, [&, w = columns.data_ptr<float>(), e = errors.data_ptr<float>()](int64_t n) {
      row_loss[static_cast<size_t>(n)] +=
          quantize_row(grid, block, n, w + n * count, e + n * count, codes + n * k);
    });
    if (rest > 0) {
      work.narrow(1, begin + count, rest)
          .addmm_(errors.to(work.device()), upper.narrow(1, begin + count, rest), 1, -1);
    }
  }
  for (double loss : row_loss) result.loss += loss;
  return result;
}

}  // namespace tessera
