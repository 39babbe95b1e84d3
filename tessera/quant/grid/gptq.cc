// The column loop of GPTQ: outputs in parallel inside a block, one matrix product for the columns behind it.
#include "tessera/quant/grid/gptq.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <numeric>
#include <vector>

#include "tessera/base/parallel.h"
#include "tessera/quant/grid/gpu_loops.h"

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

/// The columns of one block on the host.
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

/// Quantizes blocks of columns, outputs in parallel.
class HostColumns {
 public:
  HostColumns(const at::Tensor& work, const WeightGrid& grid, const at::Tensor& columns, bool sparse)
      : cells_(grid),
        columns_(columns),
        sparse_(sparse),
        codes_(at::empty({work.size(0), columns.size(0)}, at::kChar)),
        loss_(static_cast<size_t>(work.size(0))) {}

  /// The errors [N, count] of weight [N, count], columns from `begin` on, whose part of U is `upper`.
  at::Tensor quantize(const at::Tensor& weight, const at::Tensor& upper, int64_t begin) {
    const int64_t rows = weight.size(0), count = weight.size(1), base = codes_.size(1);
    const at::Tensor part = weight.clone(at::MemoryFormat::Contiguous), inner = upper.contiguous(),
                     errors = at::empty({rows, count});
    const ColumnBlock block{count, inner.data_ptr<float>(), columns_.data_ptr<int64_t>() + begin,
                            base / cells_.groups(), sparse_};
    float *w = part.data_ptr<float>(), *e = errors.data_ptr<float>();
    int8_t* const codes = codes_.data_ptr<int8_t>();
    parallel_for(rows, [&](int64_t n) {
      loss_[static_cast<size_t>(n)] +=
          quantize_row(cells_, block, n, w + n * count, e + n * count, codes + n * base);
    });
    return errors;
  }
  const at::Tensor& codes() const { return codes_; }
  double loss() const { return std::accumulate(loss_.begin(), loss_.end(), 0.0); }

 private:
  CellTable cells_;
  const at::Tensor& columns_;
  bool sparse_;
  at::Tensor codes_;
  std::vector<double> loss_;  ///< of outputs
};

#ifdef TESSERA_GPU_LOOPS
/// The same on a GPU.
class GpuColumns {
 public:
  GpuColumns(const at::Tensor& work, const WeightGrid& grid, const at::Tensor& columns, bool sparse)
      : columns_(columns.to(work.device())),
        sparse_(sparse),
        codes_(at::empty({work.size(0), columns.size(0)}, work.options().dtype(at::kChar))),
        loss_(at::zeros({work.size(0)}, work.options().dtype(at::kDouble))) {
    const GridCells cells = grid.cells().contiguous();
    cells_ = {cells.step.to(work.device()), cells.lo.to(work.device()), cells.hi.to(work.device())};
  }

  at::Tensor quantize(const at::Tensor& weight, const at::Tensor& upper, int64_t begin) {
    const int64_t base = codes_.size(1), groups = cells_.step.size(1);
    const at::Tensor errors = at::empty(weight.sizes(), weight.options());
    gpu::quantize_columns(
        static_cast<int>(weight.get_device()),
        {.rows = weight.size(0),
         .count = weight.size(1),
         .weight = weight.data_ptr<float>(),
         .weight_stride = weight.stride(0),
         .upper = upper.data_ptr<float>(),
         .upper_stride = upper.stride(0),
         .column = columns_.data_ptr<int64_t>() + begin,
         .group_size = base / groups,
         .sparse = sparse_,
         .codes = codes_.data_ptr<int8_t>(),
         .code_stride = base,
         .errors = errors.data_ptr<float>(),
         .loss = loss_.data_ptr<double>()},
        {cells_.step.data_ptr<float>(), cells_.lo.data_ptr<float>(), cells_.hi.data_ptr<float>(), groups});
    return errors;
  }
  const at::Tensor& codes() const { return codes_; }
  double loss() const { return loss_.sum().item<double>(); }

 private:
  at::Tensor columns_;
  bool sparse_;
  at::Tensor codes_, loss_;
  GridCells cells_;
};
#endif

/// Quantizes weight `work` [N, K] in the factor's order of columns, `block_size` at a time.
template <class Columns>
GptqResult quantize_blocks(const at::Tensor& work, const HessianFactor& factor, int64_t block_size,
                           Columns columns) {
  const int64_t k = work.size(1), base = k - factor.outliers;
  for (int64_t begin = 0; begin < base; begin += block_size) {
    const int64_t count = std::min(block_size, base - begin), rest = k - begin - count;
    const at::Tensor upper = factor.upper.narrow(0, begin, count);
    const at::Tensor errors =
        columns.quantize(work.narrow(1, begin, count), upper.narrow(1, begin, count), begin);
    if (rest > 0)
      work.narrow(1, begin + count, rest).addmm_(errors, upper.narrow(1, begin + count, rest), 1, -1);
  }
  const at::Tensor ascending = at::argsort(factor.order.narrow(0, base, factor.outliers));
  return {columns.codes(), work.narrow(1, base, factor.outliers).index_select(1, ascending), columns.loss()};
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
  const int64_t base = weight.size(1) - factor.outliers;
  assert(!options.sparse || (base % 4 == 0 && options.block_size % 4 == 0 && grid.scheme.group_size == 0));
  const at::Tensor work = weight.masked_fill(factor.dead, 0).index_select(1, factor.order);
  const at::Tensor columns = code_columns(factor.order.to(at::kCPU), base, options.sparse);
#ifdef TESSERA_GPU_LOOPS
  if (!work.is_cpu()) {
    return quantize_blocks(work, factor, std::min(options.block_size, gpu::kMostColumns),
                           GpuColumns(work, grid, columns, options.sparse));
  }
#endif
  return quantize_blocks(work, factor, options.block_size, HostColumns(work, grid, columns, options.sparse));
}

}  // namespace tessera
