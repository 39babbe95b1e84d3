// The column loop of GPTQ: outputs in parallel inside a block, one matrix product for the columns behind it.
#include "tessera/quant/grid/gptq.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <vector>

#include "tessera/base/parallel.h"

namespace tessera {
namespace {

constexpr int kDampingRetries = 3;

/// The inverse of an upper triangular matrix, itself upper triangular: a panel of columns at a time, as far
/// down as it is not zero. That takes half the work of solving for the whole identity.
at::Tensor inverse_of_upper(const at::Tensor& upper) {
  constexpr int64_t kPanels = 8;
  const int64_t k = upper.size(0), width = (k + kPanels - 1) / kPanels;
  at::Tensor inverse = at::eye(k, upper.options());
  for (int64_t begin = 0; begin < k; begin += width) {
    const int64_t columns = std::min(width, k - begin), rows = begin + columns;
    at::Tensor panel = inverse.narrow(0, 0, rows).narrow(1, begin, columns);
    panel.copy_(
        at::linalg_solve_triangular(upper.narrow(0, 0, rows).narrow(1, 0, rows), panel, /*upper=*/true));
  }
  return inverse;
}

/// U with U^T U = matrix^-1, or nullopt. The Cholesky factor of the reversed matrix, reversed again, is an
/// upper V with V V^T = matrix, and U is its inverse: one factorization instead of two and an inversion.
std::optional<at::Tensor> inverse_factor(const at::Tensor& matrix) {
  const auto [lower, info] = at::linalg_cholesky_ex(matrix.flip({0, 1}));
  if (info.item<int64_t>() != 0) return std::nullopt;
  at::Tensor inverse = inverse_of_upper(lower.flip({0, 1}));
  if (!at::isfinite(inverse).all().item<bool>()) return std::nullopt;
  return inverse;
}

/// The columns of one block, row-major on the host.
struct ColumnBlock {
  int64_t count;          ///< columns
  const float* upper;     ///< [count, count]: their part of U
  const int64_t* column;  ///< [count]: where their codes go
  int64_t group_size;     ///< of the grid
  bool sparse;

  float diagonal(int64_t i) const { return upper[i * (count + 1)]; }
};

/// Bit i: the weight w[i] of four is one of the two whose loss hurts least, w^2 / U_ii^2.
unsigned prunable(const ColumnBlock& block, int64_t begin, const float* w) {
  std::array<std::pair<float, unsigned>, 4> cost;
  for (unsigned i = 0; i < 4; ++i) {
    const float ratio = w[begin + i] / block.diagonal(begin + i);
    cost[i] = {ratio * ratio, i};
  }
  std::sort(cost.begin(), cost.end());
  return 1u << cost[0].second | 1u << cost[1].second;
}

/// Quantizes one output's weights in the block. `w` [count] is used up, `error` receives (w - q) / U_ii.
/// Returns the loss. Without fused multiply-adds, so that every processor computes the same bits.
__attribute__((target_clones("avx2", "default"))) double quantize_row(const CellTable& cells,
                                                                      const ColumnBlock& block, int64_t n,
                                                                      float* w, float* error, int8_t* codes) {
  double loss = 0;
  unsigned pruned = 0;
  for (int64_t i = 0; i < block.count; ++i) {
    if (block.sparse && i % 4 == 0) pruned = prunable(block, i, w);
    const GridCell cell = cells.cell(n, block.column[i] / block.group_size);
    const float code = pruned >> (i % 4) & 1u ? 0 : cell.code(w[i]);
    const float e = (w[i] - code * cell.step) / block.diagonal(i), *u = block.upper + i * block.count;
    codes[block.column[i]] = static_cast<int8_t>(code);
    error[i] = e;
    loss += 0.5 * double{e} * e;
    for (int64_t j = i + 1; j < block.count; ++j) w[j] -= e * u[j];
  }
  return loss;
}

/// order [K] without a split: falling diagonal, or natural; with one, its outliers last.
at::Tensor column_order(const at::Tensor& diagonal, bool act_order, const OutlierSplit& split) {
  if (split.count == 0) {
    return act_order ? at::argsort(diagonal, /*stable=*/true, 0, /*descending=*/true)
                     : at::arange(diagonal.size(0), diagonal.options().dtype(at::kLong));
  }
  const int64_t base = split.order.size(0) - split.count;
  at::Tensor order = split.order.clone();
  if (act_order) {
    const at::Tensor columns = std::get<0>(at::sort(order.narrow(0, 0, base)));
    const at::Tensor falling =
        at::argsort(diagonal.index_select(0, columns), /*stable=*/true, 0, /*descending=*/true);
    order.narrow(0, 0, base).copy_(columns.index_select(0, falling));
  }
  return order;
}

/// Where the code of each of the first `base` positions goes: its rank among their columns, or the position.
at::Tensor code_columns(const at::Tensor& order, int64_t base, bool sparse) {
  if (sparse) return at::arange(base, at::kLong);
  const at::Tensor columns = order.narrow(0, 0, base);
  return at::argsort(at::argsort(columns));
}

}  // namespace

std::optional<HessianFactor> factor_hessian(const at::Tensor& hessian, double damping, bool act_order,
                                            const OutlierSplit& split) {
  HessianFactor factor;
  at::Tensor h = hessian.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  at::Tensor diagonal = h.diagonal();
  factor.dead = diagonal == 0;
  diagonal.masked_fill_(factor.dead, 1);
  factor.order = column_order(diagonal, act_order, split);
  factor.outliers = split.count;
  if (split.count > 0) factor.dead.index_fill_(0, split.outliers(), 0);
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
                const GptqOptions& options) {
  const int64_t n_rows = weight.size(0), k = weight.size(1), base = k - factor.outliers;
  assert(!options.sparse || (base % 4 == 0 && options.block_size % 4 == 0 && grid.scheme.group_size == 0));
  at::Tensor work = weight.masked_fill(factor.dead, 0).index_select(1, factor.order);
  const at::Tensor order = factor.order.to(at::kCPU), columns = code_columns(order, base, options.sparse);
  GptqResult result{at::empty({n_rows, base}, at::kChar), {}};
  int8_t* codes = result.codes.data_ptr<int8_t>();
  const CellTable cells(grid);
  std::vector<double> row_loss(static_cast<size_t>(n_rows));
  for (int64_t begin = 0; begin < base; begin += options.block_size) {
    const int64_t count = std::min(options.block_size, base - begin), rest = k - begin - count;
    const at::Tensor upper = factor.upper.narrow(0, begin, count);
    const at::Tensor inner = upper.narrow(1, begin, count).to(at::kCPU).contiguous();
    const auto staging = [&] {  // page-locked: a GPU copies from and to it several times as fast
      return at::empty({n_rows, count}, at::TensorOptions(at::kFloat).pinned_memory(work.is_cuda()));
    };
    const at::Tensor part = staging(), errors = staging();
    part.copy_(work.narrow(1, begin, count));
    const ColumnBlock block{count, inner.data_ptr<float>(), columns.data_ptr<int64_t>() + begin,
                            base / cells.groups(), options.sparse};
    parallel_for(n_rows, [&, w = part.data_ptr<float>(), e = errors.data_ptr<float>()](int64_t n) {
      row_loss[static_cast<size_t>(n)] +=
          quantize_row(cells, block, n, w + n * count, e + n * count, codes + n * base);
    });
    if (rest > 0) {
      work.narrow(1, begin + count, rest)
          .addmm_(errors.to(work.device()), upper.narrow(1, begin + count, rest), 1, -1);
    }
  }
  const at::Tensor ascending = at::argsort(factor.order.narrow(0, base, factor.outliers));
  result.outlier_weight = work.narrow(1, base, factor.outliers).index_select(1, ascending);
  for (double loss : row_loss) result.loss += loss;
  return result;
}

}  // namespace tessera
