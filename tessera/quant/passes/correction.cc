// Training of low-rank corrections with libtorch's autograd.
#include "tessera/quant/passes/correction.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/optim/adam.h>

#include <cmath>

#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/straight_through.h"
#include "tessera/quant/block/token_errors.h"
#include "tessera/quant/grid/weight_grid.h"

namespace tessera {
namespace {

constexpr int64_t kJudgedWindows = 16;  ///< whose error is measured before and after

/// The weights of linear `id` as the nearest codes give them; outlier columns stay.
at::Tensor rounded_weight(const BlockContext& context, LinearId id) {
  const at::Tensor& weight = context.block.weight[id];
  const OutlierSplit& split = context.split[id];
  const at::Tensor base = split.base_columns(weight);
  const WeightGrid grid = fit_grid(base, context.schemes[id].weight, {.search = false});
  const at::Tensor rounded = fake_quantize_weight(grid, base);
  if (split.count == 0) return rounded;
  const at::Tensor columns = split.base_columns(at::arange(weight.size(1), split.order.options()));
  return weight.index_copy(1, columns, rounded);
}

at::Tensor group_output(std::span<const CorrectedBlock> blocks, at::Tensor x) {
  for (const CorrectedBlock& block : blocks) x = block.forward(x);
  return x;
}

/// Mean over some windows, without gradients.
double mean_loss(std::span<const CorrectedBlock> blocks, const GroupContext& group) {
  const at::NoGradGuard no_grad;
  const int64_t windows = group.x_quant.size(0), count = std::min(windows, kJudgedWindows);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t window = i * windows / count;
    const at::Tensor out = group_output(blocks, group.x_quant.narrow(0, window, 1));
    sum += weighted_error(out, group.target.narrow(0, window, 1)).item<double>();
  }
  return sum / static_cast<double>(count);
}

void train(std::span<const CorrectedBlock> blocks, const GroupContext& group,
           const CorrectionOptions& options, at::Generator& generator, int64_t steps) {
  std::vector<at::Tensor> parameters;
  for (const CorrectedBlock& block : blocks) {
    for (const at::Tensor& p : block.parameters()) parameters.push_back(p);
  }
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(options.learning_rate));
  const int64_t windows = group.x_quant.size(0);
  int64_t step = 0;
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    const at::Tensor order = at::randperm(windows, generator, at::kLong).to(group.x_quant.device());
    for (int64_t first = 0; first < windows; first += options.batch, ++step) {
      const at::Tensor chosen = order.narrow(0, first, std::min(options.batch, windows - first));
      const double left = 1 - static_cast<double>(step) / static_cast<double>(steps);
      for (auto& parameter_group : optimizer.param_groups()) {
        parameter_group.options().set_lr(options.learning_rate * left);
      }
      optimizer.zero_grad();
      const at::Tensor out = group_output(blocks, group.x_quant.index_select(0, chosen));
      weighted_error(out, group.target.index_select(0, chosen)).backward();
      optimizer.step();
    }
  }
}

}  // namespace

CorrectedBlock::CorrectedBlock(const BlockContext& context, const CorrectionOptions& options,
                               at::Generator& generator)
    : context_(context), scale_(1 / static_cast<double>(options.rank)) {
  for (PerLinear<at::Tensor>* tensors : {&rounded_, &a_, &b_, &outlier_mask_}) {
    tensors->resize(context.spec.linears.size());
  }
  norms_.window = context.block.window;
  const auto trained = [](const at::Tensor& tensor, bool train) {
    return tensor.defined() ? tensor.clone().set_requires_grad(train) : tensor;
  };
  for (NormId id : context.spec.existing_norms()) {
    norms_.gain[id] = trained(context.block.gain[id], options.norms);
    norms_.norm_bias[id] = trained(context.block.norm_bias[id], options.norms);
  }
  for (LinearId id : context.spec.linear_ids()) {
    const at::Tensor& weight = context.block.weight[id];
    rounded_[id] = rounded_weight(context, id);
    // Drawn for the channels and mapped like a weight, so that copies of a channel stay alike.
    const int64_t channels = context.spec.linears[id].k;
    const double bound = 1 / std::sqrt(static_cast<double>(channels));
    const at::Tensor random = at::empty({options.rank, channels}).uniform_(-bound, bound, generator);
    a_[id] = trained(context.block.map[id].fold(random.to(weight.device())), true);
    b_[id] = trained(at::zeros({weight.size(0), options.rank}, weight.options()), true);
    if (const OutlierSplit& split = context.split[id]; split.count > 0) {
      outlier_mask_[id] = at::zeros({weight.size(1)}, weight.options()).index_fill_(0, split.outliers(), 1);
    }
  }
}

/// What the integer layer makes of its input, outliers included.
at::Tensor CorrectedBlock::rounded_input(LinearId id, const at::Tensor& x) const {
  const ChannelMap& map = context_.block.map[id];
  const ActivationFormat& format = context_.schemes[id].activation;
  const at::Tensor mapped = map.apply(x);
  if (format.bits > 8) return mapped;
  const at::Tensor& mask = outlier_mask_[id];
  if (!mask.defined()) return map.repeated(round_rows_straight_through(mapped, format));
  return round_rows_straight_through(mapped * (1 - mask), format) + mapped * mask;  // 0 rounds to 0
}

at::Tensor CorrectedBlock::forward(const at::Tensor& input) const {
  const LinearFn linear = with_shared_inputs(
      [&](LinearId id, const at::Tensor& x) { return rounded_input(id, x); },
      [&](LinearId id, const at::Tensor& /*x*/, const at::Tensor& rounded) {
        const at::Tensor correction = at::matmul(at::matmul(rounded, a_[id].t()), b_[id].t());
        const at::Tensor y = at::matmul(rounded, rounded_[id].t()) + correction * scale_;
        return context_.block.bias[id].defined() ? y + context_.block.bias[id] : y;
      });
  return block_step(context_.spec, norms_, linear, input);
}

std::vector<at::Tensor> CorrectedBlock::parameters() const {
  std::vector<at::Tensor> result;
  const auto add = [&](const at::Tensor& tensor) {
    if (tensor.defined() && tensor.requires_grad()) result.push_back(tensor);
  };
  for (LinearId id : context_.spec.linear_ids()) {
    add(a_[id]);
    add(b_[id]);
  }
  for (NormId id : context_.spec.existing_norms()) {
    add(norms_.gain[id]);
    add(norms_.norm_bias[id]);
  }
  return result;
}

void CorrectedBlock::merge_into(Block& block) const {
  const at::NoGradGuard no_grad;
  for (LinearId id : context_.spec.linear_ids()) {
    block.weight[id] = at::addmm(block.weight[id], b_[id], a_[id], 1, scale_).detach();
  }
  for (NormId id : context_.spec.existing_norms()) {
    block.gain[id] = norms_.gain[id].detach();
    if (norms_.norm_bias[id].defined()) block.norm_bias[id] = norms_.norm_bias[id].detach();
  }
}

CorrectionResult correct_blocks(GroupContext& group, const CorrectionOptions& options) {
  // Seeded by place, so that a resumed run draws the same.
  at::Generator generator =
      at::detail::createCPUGenerator(options.seed + static_cast<uint64_t>(group.blocks[0].layer));
  std::vector<CorrectedBlock> blocks;
  for (const BlockContext& block : group.blocks) blocks.emplace_back(block, options, generator);
  const int64_t windows = group.x_quant.size(0);
  CorrectionResult result;
  result.steps = options.epochs * ((windows + options.batch - 1) / options.batch);
  result.loss_before = mean_loss(blocks, group);
  train(blocks, group, options, generator, result.steps);
  result.loss_after = mean_loss(blocks, group);
  if (!(result.loss_after < result.loss_before)) return result;
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i].merge_into(group.blocks[i].block);
  return result;
}

size_t correction_bytes(const ModelSpec& spec, int64_t blocks, int64_t tokens,
                        const CorrectionOptions& options) {
  const int64_t parameters = spec.block_parameters();
  int64_t trained = 0;
  for (LinearId id : spec.linear_ids()) {
    const LinearSpec& linear = spec.linears[id];
    trained += options.rank * (linear.n + linear.k);
  }
  constexpr int64_t kAdamStates = 4;  // value, gradient, two moments
  return static_cast<size_t>(blocks) *
         (static_cast<size_t>(parameters + kAdamStates * trained) * sizeof(float) +
          backward_bytes(spec, options.batch, tokens));
}

}  // namespace tessera
