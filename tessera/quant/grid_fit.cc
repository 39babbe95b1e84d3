// Choosing the scales of a weight grid, row by row.
#include <cmath>
#include <limits>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/quant/weight_grid.h"

namespace tessera {
namespace {

constexpr float kTinyRow = 0x1p-100f;  ///< rows below count as zeros
constexpr double kMseExponent = 2.4;   ///< "QQQ"
constexpr int kClipSteps = 80;         ///< clipping factors 1.00 .. 0.21
/// Candidates of the row scale, relative to absmax / 127: from group scales near 14 (coarse, nothing clipped)
/// to near 37, which resolve small groups finely and clip the row's largest ones.
constexpr int kScaleSteps = 64;
constexpr float kLargestScale = 1.2f, kScaleRatio = 0.985f;
/// A group's symmetric grid -8..7 covers +-7.5 steps.
constexpr float kGroupReach = 7.5f;

/// The columns of one row that share a step.
struct Run {
  const float* weight;
  const float* importance;
  int64_t count;
};

float squared_error(const Run& run, const GridCell& cell) {
  const float inverse = 1 / cell.step, step = cell.step, lo = cell.lo, hi = cell.hi;
  const float *w = run.weight, *h = run.importance;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < run.count; ++i) {
    const float scaled = w[i] * inverse;
    const float clamped = scaled < lo ? lo : (scaled > hi ? hi : scaled);
    const float error = w[i] - round_to_even(clamped) * step;
    sum += h[i] * error * error;
  }
  return sum;
}

float error_of(Clip clip, const Run& run, const GridCell& cell) {
  if (clip != Clip::kMse) return squared_error(run, cell);
  float sum = 0;
  for (int64_t i = 0; i < run.count; ++i) {
    const float error = std::fabs(run.weight[i] - cell.code(run.weight[i]) * cell.step);
    sum += std::pow(error, static_cast<float>(kMseExponent));
  }
  return sum;
}

float largest(const Run& run) {
  float absmax = 0;
  for (int64_t i = 0; i < run.count; ++i) absmax = std::max(absmax, std::fabs(run.weight[i]));
  return absmax < kTinyRow ? 1 : absmax;
}

/// The best step among the clipped ones of `full`, the step that clips nothing.
float clipped_step(Clip clip, const Run& run, float full, float lo, float hi) {
  if (clip == Clip::kNone) return full;
  float best = full, best_error = std::numeric_limits<float>::infinity();
  for (int i = 0; i < kClipSteps; ++i) {
    const float step = full * static_cast<float>(100 - i) / 100;
    const float error = error_of(clip, run, {step, lo, hi});
    if (error < best_error) {
      best_error = error;
      best = step;
    }
  }
  return best;
}

/// One row of a grouped grid.
class GroupedRow {
 public:
  GroupedRow(const float* weight, const float* importance, int64_t k, int64_t group_size, Clip clip)
      : clip_(clip), groups_(static_cast<size_t>(k / group_size)), step_(groups_.size()) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      const int64_t begin = static_cast<int64_t>(g) * group_size;
      groups_[g] = {weight + begin, importance + begin, group_size};
      step_[g] = clipped_step(clip, groups_[g], largest(groups_[g]) / kGroupReach, -8, 7);
    }
    unit_ = largest({weight, importance, k}) / 127;
  }

  /// Group scales nearest to the groups' own steps, with scale = absmax / 127.
  float round_scales(float* group_scale) const {
    for (size_t g = 0; g < groups_.size(); ++g) group_scale[g] = integer_scale(step_[g] / unit_);
    return unit_;
  }

  /// Tries row scales around absmax / 127 and for each the two integers around each group's step; keeps the
  /// least error ("DGQ", phase 2, with the group scale chosen by error instead of rounded).
  float search_scales(float* group_scale) const {
    float best_scale = unit_, scale = unit_ * kLargestScale;
    float best_error = try_scale(unit_, std::numeric_limits<float>::infinity(), group_scale);
    std::vector<float> candidate(groups_.size());
    for (int i = 0; i < kScaleSteps; ++i, scale *= kScaleRatio) {
      const float error = try_scale(scale, best_error, candidate.data());
      if (error < best_error) {
        best_error = error;
        best_scale = scale;
        std::copy(candidate.begin(), candidate.end(), group_scale);
      }
    }
    return best_scale;
  }

 private:
  static float integer_scale(float ratio) { return std::clamp(round_to_even(ratio), 1.0f, 127.0f); }

  /// Error of the row with the best group scales under `scale`; stops when it exceeds `limit`.
  float try_scale(float scale, float limit, float* group_scale) const {
    float total = 0;
    for (size_t g = 0; g < groups_.size() && total < limit; ++g) {
      const float below = std::clamp(std::floor(step_[g] / scale), 1.0f, 126.0f);
      const float low = error_of(clip_, groups_[g], grouped_cell(scale, below));
      const float high = error_of(clip_, groups_[g], grouped_cell(scale, below + 1));
      group_scale[g] = low <= high ? below : below + 1;
      total += std::min(low, high);
    }
    return total;
  }

  Clip clip_;
  std::vector<Run> groups_;
  std::vector<float> step_;  ///< of each group if it need not be a multiple of the row's scale
  float unit_ = 0;
};

}  // namespace

WeightGrid fit_grid(const at::Tensor& weight, const WeightScheme& scheme, const GridOptions& options,
                    const at::Tensor& importance) {
  if (scheme.bits == 8 && scheme.group_size > 0) {
    throw Error("8-bit weights have one scale a row: group size {} needs 4 bits", scheme.group_size);
  }
  const at::Tensor w = weight.to(at::kCPU, at::kFloat).contiguous();
  const int64_t n_rows = w.size(0), k = w.size(1);
  const at::Tensor h =
      importance.defined() ? importance.to(at::kCPU, at::kFloat).contiguous() : at::ones({k});
  WeightGrid grid{scheme, at::empty({n_rows}), {}};
  if (scheme.group_size > 0) grid.group_scale = at::empty({n_rows, k / scheme.group_size});
  float* scale = grid.scale.data_ptr<float>();
  parallel_for_dynamic(n_rows, [&](int64_t n) {
    const float *row = w.data_ptr<float>() + n * k, *importances = h.data_ptr<float>();
    if (scheme.group_size == 0) {
      const float limit = scheme.bits == 8 ? 127 : 7;
      const Run run{row, importances, k};
      scale[n] = clipped_step(options.clip, run, largest(run) / limit, -limit, limit);
      return;
    }
    float* group_scale = grid.group_scale.data_ptr<float>() + n * grid.group_scale.size(1);
    const GroupedRow fit(row, importances, k, scheme.group_size, options.clip);
    scale[n] = options.search ? fit.search_scales(group_scale) : fit.round_scales(group_scale);
  });
  return grid;
}

}  // namespace tessera
