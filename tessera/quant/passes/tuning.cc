// Training by gradients: rounded weights are leaves of autograd's graph, positions between the codes follow
// what comes back.
#include "tessera/quant/passes/tuning.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/token_errors.h"
#include "tessera/quant/grid/weight_grid.h"
#include "tessera/quant/passes/held_out.h"

namespace tessera {
namespace {

constexpr int64_t kJudgements = 4;  ///< states among which the best is chosen
constexpr double kReach = 0.5;      ///< codes that a weight moves at most ("AutoRound")
/// Where the present codes are not the nearest ones, weights start so far inside what rounds to them.
constexpr double kMargin = 0.02;

/// Times its output's root mean square: what a gradient counts for at most.
constexpr double kMostUsual = 4;
constexpr double kTiny = 0x1p-100;  ///< keeps outputs without gradients from dividing by zero

/// A quantized linear whose codes move.
class TunedLinear {
 public:
  TunedLinear(const QuantizedLinear& linear, const at::Tensor& weight)
      : layer_(linear, weight.device()), trained_(linear.weight_format != WeightFormat::kInt8) {
    if (!trained_) {
      rounded_ = layer_.weight();
      return;
    }
    grid_ = grid_of(linear);
    const GridCells cells = grid_.cells();
    const auto spread = [&](const at::Tensor& values) { return values.to(weight.device()).unsqueeze(2); };
    const at::Tensor codes = codes_of(linear).to(weight.device(), at::kFloat);
    const at::Tensor exact = (by_groups(weight) / spread(cells.step)).view_as(weight);
    start_ = codes + (exact - codes).clamp_(kMargin - 0.5, 0.5 - kMargin);
    lo_ = spread(cells.lo);
    hi_ = spread(cells.hi);
    position_ = start_.clone();
  }

  /// Puts the weights of the present positions in place, to be trained or not.
  void round(bool train) {
    if (!trained_) return;
    rounded_ = dequantize(grid_, position_.round()).set_requires_grad(train);
  }

  /// Moves positions against the gradients of the weights.
  void step(double rate) {
    if (!trained_) return;
    const at::Tensor gradient = rounded_.grad();
    const at::Tensor usual = gradient.square().mean({1}, /*keepdim=*/true).sqrt_().clamp_min_(kTiny);
    position_.sub_((gradient / usual).clamp_(-kMostUsual, kMostUsual), rate);
    position_ = at::minimum(at::maximum(position_, start_ - kReach), start_ + kReach);
    by_groups(position_).clamp_(lo_, hi_);
    rounded_.reset();
  }

  bool trains() const { return trained_; }
  at::Tensor rounded_input(const at::Tensor& x) const { return layer_.rounded_input(x); }
  at::Tensor product(const at::Tensor& x, const at::Tensor& rounded) const {
    return layer_.product(x, rounded, rounded_);
  }

  /// I8 [N, K]; undefined where they stay.
  at::Tensor codes() const { return trained_ ? position_.round().to(at::kChar) : at::Tensor(); }

 private:
  /// [N, groups, inputs of a group]
  at::Tensor by_groups(const at::Tensor& weight) const {
    const int64_t groups = grid_.group_scale.defined() ? grid_.group_scale.size(1) : 1;
    return weight.view({weight.size(0), groups, -1});
  }

  FakeQuantLinear layer_;
  bool trained_;  ///< 8-bit codes stay
  WeightGrid grid_;
  at::Tensor start_, position_;  ///< [N, K], in codes
  at::Tensor lo_, hi_;           ///< [N, groups, 1]: the grid's codes
  at::Tensor rounded_;           ///< [N, K]: the weight in use
};

/// The block while it is trained.
class TunedBlock {
 public:
  explicit TunedBlock(const BlockContext& context) : context_(context) {
    for (LinearId id : context.spec.linear_ids()) {
      const at::Tensor weight = context.split[id].base_columns(context.block.weight[id]);
      linears_.emplace_back(*context.quantized[id], weight.contiguous());
    }
  }

  /// False when no linear has codes that move.
  bool trains() const {
    return std::ranges::any_of(linears_, [](const TunedLinear& linear) { return linear.trains(); });
  }

  /// Weighted error of windows `chosen` (int64), in chunks; trains where gradients are enabled.
  double loss(const at::Tensor& target, const at::Tensor& chosen) {
    const bool train = at::GradMode::is_enabled();
    for (TunedLinear& linear : linears_) linear.round(train);
    const int64_t count = chosen.size(0), chunk = windows_per_chunk(target.size(1), target.device());
    double sum = 0;
    for (int64_t begin = 0; begin < count; begin += chunk) {
      const at::Tensor part = chosen.narrow(0, begin, std::min(chunk, count - begin));
      const at::Tensor loss =
          weighted_error(forward(context_.x_quant.index_select(0, part)), target.index_select(0, part)) *
          (static_cast<double>(part.size(0)) / static_cast<double>(count));
      if (train) loss.backward();
      sum += loss.item<double>();
    }
    return sum;
  }

  void step(double rate) {
    for (TunedLinear& linear : linears_) linear.step(rate);
  }

  PerLinear<at::Tensor> codes() const {
    PerLinear<at::Tensor> result;
    for (const TunedLinear& linear : linears_) result.push_back(linear.codes());
    return result;
  }

 private:
  at::Tensor forward(const at::Tensor& input) const {
    const LinearFn linear =
        with_shared_inputs([&](LinearId id, const at::Tensor& x) { return linears_[id].rounded_input(x); },
                           [&](LinearId id, const at::Tensor& x, const at::Tensor& rounded) {
                             return linears_[id].product(x, rounded);
                           });
    return block_step(context_.spec, context_.block, linear, input);
  }

  const BlockContext& context_;
  std::vector<TunedLinear> linears_;
};

/// Gives the linears these codes and returns the share of each one's that changes.
PerLinear<double> replace(const PerLinear<at::Tensor>& codes, BlockContext& context) {
  PerLinear<double> changed(codes.size());
  for (LinearId id : context.spec.linear_ids()) {
    if (!codes[id].defined()) continue;
    QuantizedLinear& linear = *context.quantized[id];
    const at::Tensor host = codes[id].cpu();
    changed[id] = (host != codes_of(linear)).to(at::kFloat).mean().item<double>();
    replace_codes(linear, host);
  }
  return changed;
}

}  // namespace

TuningResult tune_block(BlockContext& context, const TuningOptions& options) {
  const HeldOutWindows windows(context.x_quant.size(0), context.x_quant.device());
  const at::Tensor target =
      block_forward(context.spec, context.block, float_linears(context.block), context.x_float);

  // Seeded by place, so that a resumed run draws the same.
  at::Generator generator =
      at::detail::createCPUGenerator(options.seed + static_cast<uint64_t>(context.layer));
  TunedBlock block(context);
  const auto judge = [&] {
    const at::NoGradGuard no_grad;
    return block.loss(target, windows.judged());
  };
  TuningResult result;
  result.loss_before = result.loss_after = judge();
  result.changed.resize(context.spec.linears.size());
  if (!block.trains()) return result;
  PerLinear<at::Tensor> best;
  for (int64_t step = 1; step <= options.steps; ++step) {
    block.loss(target, windows.draw(options.batch, generator));
    const double left = 1 - static_cast<double>(step - 1) / static_cast<double>(options.steps);
    block.step(options.learning_rate * left);
    if (step * kJudgements / options.steps == (step - 1) * kJudgements / options.steps) continue;
    const double loss = judge();
    if (!(loss < result.loss_after)) continue;
    result.loss_after = loss;
    result.step = step;
    best = block.codes();
  }
  if (result.step > 0) result.changed = replace(best, context);
  return result;
}

size_t tuning_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) {
  const int64_t parameters = spec.block_parameters();
  int64_t largest = 0;
  for (const LinearSpec& linear : spec.linears) largest = std::max(largest, linear.n * linear.k);
  constexpr int64_t kCopies = 5, kSteps = 3;  // the layer's operand, start, position, weight, gradient
  const auto floats =
      static_cast<size_t>(kCopies * parameters + kSteps * largest + windows * tokens * spec.hidden_size);
  return floats * sizeof(float) + 2 * static_cast<size_t>(parameters) +
         backward_bytes(spec, std::min(windows, windows_per_chunk(tokens)), tokens);
}

}  // namespace tessera
