// Separable losses group by group, output losses as matrix products.
#include "tessera/quant/grid/grid_loss.h"

#include <cassert>
#include <cmath>
#include <numeric>

#include "tessera/base/parallel.h"
#include "tessera/quant/grid/gpu_loops.h"
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

/// Calls body(c, r, g, cell) for all cells [C, R, G], outputs in parallel.
template <class Body>
void for_each_cell(const GridCells& candidates, const Body& body) {
  const int64_t count = candidates.step.size(0), rows = candidates.step.size(1),
                groups = candidates.step.size(2);
  const GridCells cells = candidates.contiguous();
  const float *steps = cells.step.data_ptr<float>(), *los = cells.lo.data_ptr<float>(),
              *his = cells.hi.data_ptr<float>();
  parallel_for(rows, [&](int64_t r) {
    for (int64_t c = 0; c < count; ++c) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t i = (c * rows + r) * groups + g;
        body(c, r, g, GridCell{steps[i], los[i], his[i]});
      }
    }
  });
}

#ifdef TESSERA_GPU_LOOPS
at::Tensor losses_on_gpu(const at::Tensor& weight, const GridCells& candidates, const float* importance) {
  const GridCells cells = candidates.contiguous();
  at::Tensor losses = at::empty_like(cells.step);
  gpu::separable_losses(static_cast<int>(weight.get_device()), weight.data_ptr<float>(), weight.size(0),
                        weight.size(1), cells.step.size(0),
                        {cells.step.data_ptr<float>(), cells.lo.data_ptr<float>(), cells.hi.data_ptr<float>(),
                         cells.step.size(2)},
                        importance, kMseExponent, losses.data_ptr<float>());
  return losses;
}
#endif

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

int64_t GridLoss::candidates_at_once() const {
  constexpr int64_t kGpuCells = int64_t{1} << 24;
  if (weight_.is_cpu() || clip_ == Clip::kOutput) return 1;
  return std::max<int64_t>(1, kGpuCells / (weight_.size(0) * groups_));
}

at::Tensor GridLoss::by_group(const GridCells& candidates) const {
  if (clip_ != Clip::kOutput) return separable_losses(candidates);
  const at::Tensor error = errors(candidates);
  std::vector<at::Tensor> losses;
  for (int64_t g = 0; g < groups_; ++g) {
    losses.push_back(output_loss(error, group_shift_, g * group_size_, group_size_));
  }
  return at::stack(losses, 2).to(weight_.device());
}

at::Tensor GridLoss::by_row(const GridCells& candidates) const {
  if (!groups_interact()) return by_group(candidates).sum(2);
  return output_loss(errors(candidates), row_shift_, 0, weight_.size(1)).to(weight_.device());
}

at::Tensor GridLoss::separable_losses(const GridCells& candidates) const {
#ifdef TESSERA_GPU_LOOPS
  if (!weight_.is_cpu()) {
    return losses_on_gpu(weight_, candidates, clip_ == Clip::kMse ? nullptr : importance_.data_ptr<float>());
  }
#endif
  at::Tensor losses = at::empty(candidates.step.sizes());
  const float *weight = weight_.data_ptr<float>(), *importance = importance_.data_ptr<float>();
  float* const out = losses.data_ptr<float>();
  for_each_cell(candidates, [&](int64_t c, int64_t r, int64_t g, const GridCell& cell) {
    const int64_t begin = g * group_size_;
    const Run run{weight + r * weight_.size(1) + begin, importance + begin, group_size_};
    out[(c * weight_.size(0) + r) * groups_ + g] =
        clip_ == Clip::kMse ? powered_error(run, cell) : squared_error(run, cell);
  });
  return losses;
}

/// weight - nearest values, [C, R, K], on the Hessian's device where there is one.
at::Tensor GridLoss::errors(const GridCells& candidates) const {
  const int64_t count = candidates.step.size(0), rows = weight_.size(0), k = weight_.size(1);
  at::Tensor result = at::empty({count, rows, k}, weight_.options());
  if (!weight_.is_cpu()) {
    const GridCells cells = candidates.contiguous();
    for (int64_t c = 0; c < count; ++c) {
      at::Tensor values = nearest_codes(weight_, {cells.step[c], cells.lo[c], cells.hi[c]});
      values.view({rows, groups_, group_size_}).mul_(cells.step[c].unsqueeze(2));
      at::Tensor of_candidate = result[c];
      at::sub_out(of_candidate, weight_, values);
    }
  } else {
    const float* weight = weight_.data_ptr<float>();
    float* const out = result.data_ptr<float>();
    for_each_cell(candidates, [&](int64_t c, int64_t r, int64_t g, const GridCell& cell) {
      const float inverse = 1 / cell.step, *w = weight + r * k + g * group_size_;
      float* const to = out + (c * rows + r) * k + g * group_size_;
#pragma omp simd
      for (int64_t i = 0; i < group_size_; ++i) to[i] = cell_error(w[i], inverse, cell);
    });
  }
  return result.to(hessian_.device());
}

/// With d the outputs' errors at these inputs: d H d' - 2 d shift', [C, R]. For shift = w cross' this is the
/// output error |x w - xh (w - d)|^2 without its part that no choice of d changes.
at::Tensor GridLoss::output_loss(const at::Tensor& error, const at::Tensor& shift, int64_t begin,
                                 int64_t count) const {
  const at::Tensor d = error.narrow(2, begin, count);
  at::Tensor product = at::matmul(d, hessian_.narrow(0, begin, count).narrow(1, begin, count));
  if (shift.defined()) product.sub_(shift.narrow(1, begin, count), 2);
  return product.mul_(d).sum(2);
}

}  // namespace tessera
