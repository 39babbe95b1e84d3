// Choosing the scales and zero points of a weight grid: first each group by itself, then the output scale
// under which the groups' scales become integers ("DGQ", two-phase search).
#include <limits>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/quant/grid/grid_loss.h"
#include "tessera/quant/grid/weight_grid.h"

namespace tessera {
namespace {

constexpr double kTiny = 0x1p-100;  ///< outputs and groups below count as zeros
constexpr double kInt8 = 127;
constexpr int kGroupScaleBits = 7;  ///< of the integers up to 127
constexpr int kHalfBits = 11;       ///< of a float16 number
constexpr int kFewBits = 4;  ///< of group scales that float16 holds in the product with an output scale
/// Outputs that are fitted together: on the CPU their errors stay near the cache, a GPU is kept busy.
constexpr int64_t kRowsAtOnce = 512, kGpuRowsAtOnce = 8192;

/// What clipping a group's range is tried with; 1 first, so that it wins ties.
std::vector<double> clip_factors(Clip clip) {
  std::vector<double> factors{1};
  if (clip == Clip::kMse || clip == Clip::kWeighted) {
    for (int i = 1; i < 80; ++i) factors.push_back((100 - i) / 100.0);  // "QQQ"
  } else if (clip == Clip::kOutput) {
    for (int i = 1; i <= 20; ++i) factors.push_back(1.02 - 0.011 * i);  // "DGQ", phase 1
  }
  return factors;
}

/// Candidates of the output scale, relative to the output's largest weight / 127.
std::vector<float> scale_factors(bool search) {
  std::vector<float> factors{1};
  for (int i = 1; search && i <= 80; ++i)
    factors.push_back(1.02f - 0.01025f * static_cast<float>(i));  // "DGQ"
  return factors;
}

/// Steps between the least and the largest code.
double code_steps(const WeightScheme& scheme) {
  const int codes = 1 << scheme.bits;
  return scheme.symmetric && scheme.group_size == 0 ? codes - 2 : codes - 1;
}

/// Positive floats with `bits` significant bits, 1 to 24: the nearest, ties up.
at::Tensor round_significant(const at::Tensor& x, int bits) {
  constexpr int kFloatBits = 24;
  if (bits == kFloatBits) return x;
  const int dropped = 1 << (kFloatBits - bits);
  return x.view(at::kInt).add(dropped / 2).bitwise_and_(-dropped).view(at::kFloat);
}

/// The least of losses [C, ...] and the first candidate that has it, [...] each. NaN counts as infinite.
std::pair<at::Tensor, at::Tensor> first_least(at::Tensor losses) {
  if (losses.size(0) == 1) return {losses[0], at::zeros_like(losses[0], at::kLong)};
  losses = losses.masked_fill(losses.isnan(), std::numeric_limits<float>::infinity());
  const at::Tensor least = at::amin(losses, {0});
  std::vector<int64_t> shape(static_cast<size_t>(losses.dim()), 1);
  shape[0] = losses.size(0);
  const at::Tensor index = at::arange(shape[0], losses.options().dtype(at::kLong)).view(shape);
  return {least, at::amin(at::where(losses == least, index, shape[0] - 1), {0})};  // argmin() gives any
}

/// Of candidates [C, ...] those with the least loss, the first of several: the first of all where none has a
/// finite one. `losses` gives those of some candidates.
template <class Losses>
at::Tensor best_of(const at::Tensor& candidates, int64_t at_once, const Losses& losses) {
  at::Tensor best = candidates[0], least = at::full_like(best, std::numeric_limits<float>::infinity());
  for (const at::Tensor& some : candidates.split(at_once)) {
    const auto [loss, index] = first_least(losses(some));
    const at::Tensor better = loss < least;
    best = at::where(better, some.gather(0, index.unsqueeze(0)).squeeze(0), best);
    least = at::where(better, loss, least);
  }
  return best;
}

/// The fit of a few outputs [R, K].
class OutputsFit {
 public:
  OutputsFit(const at::Tensor& weight, const WeightScheme& scheme, const GridOptions& options,
             const InputMoments& moments)
      : weight_(weight),
        scheme_(scheme),
        options_(options),
        groups_(scheme.group_size > 0 ? weight.size(1) / scheme.group_size : 1),
        scale_bits_(options.scale_bits > 0  ? options.scale_bits
                    : scheme.group_size > 0 ? kHalfBits - kFewBits
                                            : kHalfBits),
        group_scale_bits_(scale_bits_ < kHalfBits ? std::min(kGroupScaleBits, kHalfBits - scale_bits_)
                                                  : kGroupScaleBits),
        loss_(options.clip, weight, groups_, moments) {}

  /// Phase 1: the step of every group if it need not be a multiple of the output's scale, and its zero point.
  void fit_groups() {
    const at::Tensor grouped = weight_.view({weight_.size(0), groups_, -1});
    // Zero stays representable: ranges include it.
    at::Tensor largest = at::amax(grouped, {2}).clamp_min_(0), least = at::amin(grouped, {2}).clamp_max_(0);
    absmax_ = at::amax(at::maximum(largest, -least), {1});
    if (scheme_.symmetric) {
      largest = at::maximum(largest, -least);
      least = -largest;
    }
    const double steps = code_steps(scheme_);
    const at::Tensor full = ((largest - least) / steps).clamp_min_(kTiny);
    zero_ = (-least / full).round_().clamp_(0, steps);
    lo_ = -zero_;
    hi_ = steps - zero_;
    step_ = best_clip(full);
  }

  /// Phase 2: the output's scale [R] and integer group scales [R, G].
  void fit_rows() {
    const std::vector<float> factors = scale_factors(options_.search);
    const at::Tensor unit = at::where(absmax_ < kTiny, at::ones_like(absmax_), absmax_ / kInt8);
    const at::Tensor candidates = at::tensor(at::ArrayRef<float>(factors), unit.options());
    at::Tensor scales = round_significant(candidates.unsqueeze(1) * unit, scale_bits_);  // [candidates, R]
    if (factors.size() > 1 && loss_.groups_interact()) scales = promising(scales);
    scale_ = scales.size(0) == 1 ? scales[0]
                                 : best_of(scales, loss_.candidates_at_once(),
                                           [&](const auto& some) { return loss_.by_row(cells(some)); });
  }

  void write(WeightGrid& grid, int64_t first) const {
    const auto put = [&](const at::Tensor& values, at::Tensor& out) {
      out.narrow(0, first, values.size(0)).copy_(values);
    };
    if (!scheme_.symmetric) put(zero_, grid.zero);
    if (scheme_.group_size == 0) return put(step_.select(1, 0), grid.scale);
    put(scale_, grid.scale);
    put(group_scale(scale_), grid.group_scale);
  }

 private:
  /// The steps of one scale an output as they can be, those of groups as they are.
  at::Tensor row_steps(const at::Tensor& step) const {
    return scheme_.group_size > 0 ? step : round_significant(step, scale_bits_);
  }

  /// Of the clipped steps of `full`, the step that clips nothing, each group's best.
  at::Tensor best_clip(const at::Tensor& full) const {
    const std::vector<double> factors = clip_factors(options_.clip);
    if (factors.size() == 1) return row_steps(full);
    const at::Tensor candidates =
        row_steps(at::tensor(at::ArrayRef<double>(factors), full.options()).view({-1, 1, 1}) * full);
    return best_of(candidates, loss_.candidates_at_once(), [&](const auto& some) {
      return loss_.by_group({some, lo_, hi_});
    });
  }

  /// Of scales [..., R], [..., R, G].
  at::Tensor group_scale(const at::Tensor& scale) const {
    const at::Tensor ratio = step_ / scale.unsqueeze(-1);
    const int largest = (1 << kGroupScaleBits) - (1 << (kGroupScaleBits - group_scale_bits_));
    return at::where(ratio < 1 << group_scale_bits_, ratio.round(),
                     round_significant(ratio, group_scale_bits_))
        .clamp_(1, largest);
  }

  /// The grids under output scales [C, R]: codes only as far as the product with the group scale fits int8.
  GridCells cells(const at::Tensor& scales) const {
    const at::Tensor integer = group_scale(scales), reach = (kInt8 / integer).floor_();
    return {integer * scales.unsqueeze(2), at::maximum(lo_, -reach), at::minimum(hi_, reach)};
  }

  /// Of the candidates [C, R] each output's first and its best when groups are judged by themselves, in
  /// falling order: judging them together costs a product with the whole Hessian.
  at::Tensor promising(const at::Tensor& scales) const {
    std::vector<at::Tensor> losses;
    for (const at::Tensor& some : scales.split(loss_.candidates_at_once()))
      losses.push_back(loss_.by_group(cells(some)).sum(2));
    at::Tensor order = at::argsort(at::cat(losses), /*stable=*/true, /*dim=*/0, /*descending=*/false);
    order = order.narrow(0, 0, std::min(options_.rerank, order.size(0)));
    order = std::get<0>(at::cat({at::zeros_like(order.narrow(0, 0, 1)), order}).sort(0));
    return scales.gather(0, order);
  }

  const at::Tensor& weight_;
  const WeightScheme& scheme_;
  const GridOptions& options_;
  int64_t groups_;
  int scale_bits_, group_scale_bits_;  ///< significant ones
  GridLoss loss_;
  at::Tensor absmax_;                 ///< [R]
  at::Tensor zero_, lo_, hi_, step_;  ///< [R, G]
  at::Tensor scale_;                  ///< [R]
};

}  // namespace

size_t fit_bytes(int64_t k) {
  // Errors, their product with the Hessian, and the two shifts.
  return static_cast<size_t>(4 * kRowsAtOnce * k) * sizeof(float);
}

WeightGrid fit_grid(const at::Tensor& weight, const WeightScheme& scheme, const GridOptions& options,
                    const InputMoments& moments) {
  if (scheme.bits != 4 && scheme.group_size > 0) {
    throw Error("{}-bit weights have one scale an output: group size {} needs 4 bits", scheme.bits,
                scheme.group_size);
  }
  const at::Tensor w = weight.to(at::kFloat).contiguous();
  const int64_t n_outputs = w.size(0), groups = scheme.group_size > 0 ? w.size(1) / scheme.group_size : 1;
  WeightGrid grid{scheme, at::empty({n_outputs}), {}, {}};
  if (scheme.group_size > 0) grid.group_scale = at::empty({n_outputs, groups});
  if (!scheme.symmetric) grid.zero = at::empty({n_outputs, groups});
  const int64_t at_once = w.is_cpu() ? kRowsAtOnce : kGpuRowsAtOnce;
  for (int64_t first = 0; first < n_outputs; first += at_once) {
    const at::Tensor some = w.narrow(0, first, std::min(at_once, n_outputs - first));
    OutputsFit fit(some, scheme, options, moments);
    fit.fit_groups();
    if (scheme.group_size > 0) fit.fit_rows();
    fit.write(grid, first);
  }
  return grid;
}

namespace {

/// One group's codes with its float scale rounded to a multiple of the output's `unit` [N, 1], as int8 holds
/// them.
at::Tensor wrapped_values(const WeightGrid& grid, const at::Tensor& codes, const at::Tensor& unit) {
  const at::Tensor scale = (grid.scale.unsqueeze(1) / unit).round_().clamp_min_(1);
  return (scale * codes).to(at::kInt).to(at::kChar) * unit;
}

}  // namespace

at::Tensor round_group_wise(const at::Tensor& on_device, const WeightScheme& scheme, GroupScales scales,
                            Clip clip, const InputMoments& moments) {
  const at::Tensor weight = on_device.cpu();
  const at::Tensor unit = at::amax(weight.abs(), {1}, /*keepdim=*/true).clamp_min(kTiny) / kInt8;
  std::vector<at::Tensor> groups;
  for (int64_t begin = 0; begin < weight.size(1); begin += scheme.group_size) {
    const auto part = [&](const at::Tensor& t, std::initializer_list<int64_t> dims) {
      at::Tensor narrowed = t;
      for (int64_t dim : dims) {
        if (t.defined()) narrowed = narrowed.narrow(dim, begin, scheme.group_size);
      }
      return narrowed;
    };
    const InputMoments inputs{part(moments.importance, {0}), part(moments.hessian, {0, 1}),
                              part(moments.cross, {0, 1})};
    const at::Tensor columns = part(weight, {1});
    const WeightGrid grid = fit_grid(columns, {scheme.bits, 0, scheme.symmetric}, {.clip = clip}, inputs);
    const at::Tensor codes = round_to_grid(grid, columns);
    groups.push_back(scales == GroupScales::kFloat ? dequantize(grid, codes)
                                                   : wrapped_values(grid, codes, unit));
  }
  return at::cat(groups, 1);
}

}  // namespace tessera
