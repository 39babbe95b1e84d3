// Separable losses output by output on the CPU and by tensor operators on a GPU, output losses as matrix
// products.
#include "tessera/quant/grid/grid_loss.h"

#include <cassert>
#include <cmath>
#include <numeric>

#include "tessera/base/parallel.h"
#include "tessera/quant/grid/weight_grid.h"

namespace tessera {
namespace {

constexpr float kMseExponent = 2.4f;  ///< "QQQ"

/// The inputs of one output that share a cell.
struct Run {
  const float* weight;
  const float* importance;
  int64_t count;
};

/// w - its nearest value; through the inverse step, which vectorizes better than a division.
inline float cell_error(float w, float inverse, const GridCell& cell) {
  const float scaled = w * inverse;
  const float clamped = scaled < cell.lo ? cell.lo : (scaled > cell.hi ? cell.hi : scaled);
  return w - round_to_even(clamped) * cell.step;
}

/// Without fused multiply-adds and in a fixed number of sums, so that every processor computes the same bits.
__attribute__((target_clones("avx2", "default"))) float squared_error(const Run run, const GridCell cell) {
  constexpr int64_t kSums = 16;
  const float inverse = 1 / cell.step;
  float sums[kSums] = {};
  int64_t i = 0;
  const auto add = [&](int64_t count) {
    const float *w = run.weight + i, *h = run.importance + i;
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) {
      const float error = cell_error(w[j], inverse, cell);
      sums[j] += h[j] * error * error;
    }
  };
  for (; i + kSums <= run.count; i += kSums) add(kSums);
  add(run.count - i);
  return std::accumulate(std::begin(sums), std::end(sums), 0.0F);
}

float powered_error(const Run& run, const GridCell& cell) {
  float sum = 0;
  for (int64_t i = 0; i < run.count; ++i) {
    sum += std::pow(std::fabs(cell_error(run.weight[i], 1 / cell.step, cell)), kMseExponent);
  }
  return sum;
}

/// Calls body(r, g, cell) for all cells, outputs in parallel.
template <class Body>
void for_each_cell(const GridCells& cells, const Body& body) {
  const int64_t groups = cells.step.size(1);
  const at::Tensor step = cells.step.contiguous(), lo = cells.lo.contiguous(), hi = cells.hi.contiguous();
  const float *steps = step.data_ptr<float>(), *los = lo.data_ptr<float>(), *his = hi.data_ptr<float>();
  parallel_for(cells.step.size(0), [&](int64_t r) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t i = r * groups + g;
      body(r, g, GridCell{steps[i], los[i], his[i]});
    }
  });
}

}  // namespace

at::Tensor nearest_codes(const at::Tensor& weight, const GridCells& cells) {
  at::Tensor codes = weight.reshape({weight.size(0), cells.step.size(1), -1}) / cells.step.unsqueeze(2);
  return codes.clamp_(cells.lo.unsqueeze(2), cells.hi.unsqueeze(2)).round_().view(weight.sizes());
}

GridLoss::GridLoss(Clip clip, const at::Tensor& weight, int64_t groups, const InputMoments& moments)
    : clip_(clip),
      weight_(weight),
      importance_(moments.importance.defined()
                      ? moments.importance.to(weight.device(), at::kFloat).contiguous()
                      : at::ones({weight.size(1)}, weight.options())),
      hessian_(moments.hessian),
      groups_(groups),
      group_size_(weight.size(1) / groups) {
  assert(clip != Clip::kOutput || hessian_.defined());
  if (clip != Clip::kOutput || !moments.cross.defined()) return;
  const at::Tensor w = weight.to(moments.cross.device());
  row_shift_ = at::matmul(w, moments.cross.t());
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < weight.size(1); begin += group_size_) {
    const at::Tensor block = moments.cross.narrow(0, begin, group_size_).narrow(1, begin, group_size_);
    parts.push_back(at::matmul(w.narrow(1, begin, group_size_), block.t()));
  }
  group_shift_ = at::cat(parts, 1);
}

at::Tensor GridLoss::by_group(const GridCells& cells) const {
  if (clip_ != Clip::kOutput) return separable_losses(cells);
  const at::Tensor error = errors(cells);
  std::vector<at::Tensor> losses;
  for (int64_t g = 0; g < groups_; ++g) {
    losses.push_back(output_loss(error, group_shift_, g * group_size_, group_size_));
  }
  return at::stack(losses, 1).to(weight_.device());
}

at::Tensor GridLoss::by_row(const GridCells& cells) const {
  if (!groups_interact()) return by_group(cells).sum(1);
  return output_loss(errors(cells), row_shift_, 0, weight_.size(1)).to(weight_.device());
}

at::Tensor GridLoss::separable_losses(const GridCells& cells) const {
  if (!weight_.is_cpu()) {
    const at::Tensor error = errors(cells);
    const at::Tensor loss =
        clip_ == Clip::kMse ? error.abs_().pow_(kMseExponent) : error.square_().mul_(importance_);
    return loss.view({weight_.size(0), groups_, group_size_}).sum(2);
  }
  at::Tensor losses = at::empty(cells.step.sizes());
  const float *weight = weight_.data_ptr<float>(), *importance = importance_.data_ptr<float>();
  float* out = losses.data_ptr<float>();
  for_each_cell(cells, [&](int64_t r, int64_t g, const GridCell& cell) {
    const int64_t begin = g * group_size_;
    const Run run{weight + r * weight_.size(1) + begin, importance + begin, group_size_};
    out[r * groups_ + g] = clip_ == Clip::kMse ? powered_error(run, cell) : squared_error(run, cell);
  });
  return losses;
}

/// weight - nearest values, [R, K], on the Hessian's device where there is one.
at::Tensor GridLoss::errors(const GridCells& cells) const {
  if (!weight_.is_cpu()) {
    at::Tensor values = nearest_codes(weight_, cells);
    values.view({weight_.size(0), groups_, group_size_}).mul_(cells.step.unsqueeze(2));
    return at::sub_out(values, weight_, values).to(hessian_.defined() ? hessian_.device() : weight_.device());
  }
  at::Tensor result = at::empty_like(weight_);
  const float* weight = weight_.data_ptr<float>();
  float* out = result.data_ptr<float>();
  for_each_cell(cells, [&](int64_t r, int64_t g, const GridCell& cell) {
    const float inverse = 1 / cell.step;
    const int64_t begin = r * weight_.size(1) + g * group_size_;
#pragma omp simd
    for (int64_t i = begin; i < begin + group_size_; ++i) out[i] = cell_error(weight[i], inverse, cell);
  });
  return result.to(hessian_.device());
}

/// With d the outputs' errors at these inputs: d H d' - 2 d shift', [R]. For shift = w cross' this is the
/// output error |x w - xh (w - d)|^2 without its part that no choice of d changes.
at::Tensor GridLoss::output_loss(const at::Tensor& error, const at::Tensor& shift, int64_t begin,
                                 int64_t count) const {
  const at::Tensor d = error.narrow(1, begin, count);
  at::Tensor product = at::matmul(d, hessian_.narrow(0, begin, count).narrow(1, begin, count));
  if (shift.defined()) product.sub_(shift.narrow(1, begin, count), 2);
  return product.mul_(d).sum(1);
}

}  // namespace tessera
