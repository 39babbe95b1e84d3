// End-to-end training of norms, output scales and biases.
#include "tessera/quant/passes/distillation.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <torch/optim/adam.h>

#include <algorithm>
#include <array>

#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/passes/held_out.h"

namespace tessera {
namespace {

constexpr int64_t kJudgements = 5;  ///< states among which the best is chosen
/// Values of the logits that exist at once, of each of the two models.
constexpr int64_t kLogits = int64_t{1} << 24, kGpuLogits = int64_t{1} << 27;

/// Values that training changes in proportion to their size: start + unit * change. Undefined where the model
/// has none.
class TrainedVector {
 public:
  TrainedVector() = default;
  TrainedVector(const at::Tensor& start, const at::Tensor& unit) : start_(start), unit_(unit) {
    if (start_.defined()) change_ = at::zeros_like(start_).set_requires_grad(true);
  }
  /// Values are factors: each changes by parts of itself.
  static TrainedVector factors(const at::Tensor& start) { return {start, start}; }
  /// Values are added: all change by parts of their root mean square.
  static TrainedVector offsets(const at::Tensor& start) {
    return {start, start.defined() ? start.square().mean().sqrt() : start};
  }

  at::Tensor now() const { return start_.defined() ? start_ + unit_ * change_ : start_; }
  void add_to(std::vector<at::Tensor>& parameters) const {
    if (start_.defined()) parameters.push_back(change_);
  }

 private:
  at::Tensor start_, unit_, change_;
};

class TrainedBlock {
 public:
  TrainedBlock(const ModelSpec& spec, const FinishedBlock& block, bool scales)
      : spec_(spec), norms_(block.norms), scales_(scales) {
    for (NormId id : spec.existing_norms()) {
      gain_[id] = TrainedVector::factors(norms_.gain[id]);
      norm_bias_[id] = TrainedVector::offsets(norms_.norm_bias[id]);
    }
    const at::Device device = norms_.gain[spec.existing_norms().front()].device();
    for (LinearId id : spec.linear_ids()) {
      const FakeQuantLinear& linear = linears_.emplace_back(*block.linears[id], device);
      scale_.push_back(TrainedVector::factors(linear.scale()));
      bias_.push_back(TrainedVector::offsets(linear.bias()));
    }
  }

  /// The quantized block, differentiable; the cache is exact while it is trained.
  at::Tensor forward(const at::Tensor& x, bool training) const {
    Block norms = current_norms();
    if (training) norms.kv_format = KvFormat::kF16;
    const LinearFn linear =
        with_shared_inputs([&](LinearId id, const at::Tensor& in) { return linears_[id].rounded_input(in); },
                           [&](LinearId id, const at::Tensor& in, const at::Tensor& rounded) {
                             return linears_[id].product(in, rounded, scale_[id].now(), bias_[id].now());
                           });
    return block_step(spec_, norms, linear, x);
  }

  void add_to(std::vector<at::Tensor>& parameters) const {
    for (NormId id : spec_.existing_norms()) {
      gain_[id].add_to(parameters);
      norm_bias_[id].add_to(parameters);
    }
    for (LinearId id : spec_.linear_ids()) {
      if (scales_) scale_[id].add_to(parameters);
      bias_[id].add_to(parameters);
    }
  }

  void write_to(FinishedBlock& block) const {
    block.norms = current_norms();
    for (LinearId id : spec_.linear_ids()) {
      if (scales_) block.linears[id]->scale = to_host_tensor(scale_[id].now());
      if (const at::Tensor bias = bias_[id].now(); bias.defined())
        block.linears[id]->bias = to_host_tensor(bias);
    }
  }

 private:
  Block current_norms() const {
    Block norms = norms_;
    for (NormId id : spec_.existing_norms()) {
      norms.gain[id] = gain_[id].now();
      norms.norm_bias[id] = norm_bias_[id].now();
    }
    return norms;
  }

  const ModelSpec& spec_;
  Block norms_;
  bool scales_;
  std::vector<FakeQuantLinear> linears_;
  std::array<TrainedVector, kNormCount> gain_, norm_bias_;
  PerLinear<TrainedVector> scale_, bias_;
};

class TrainedModel {
 public:
  TrainedModel(ModelContext& model, bool scales)
      : model_(model), gain_(TrainedVector::factors(model.gain)), bias_(TrainedVector::offsets(model.bias)) {
    for (const FinishedBlock& block : model.blocks) blocks_.emplace_back(model.spec, block, scales);
  }

  std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> result;
    for (const TrainedBlock& block : blocks_) block.add_to(result);
    gain_.add_to(result);
    bias_.add_to(result);
    return result;
  }

  /// Mean divergence of windows `chosen` (int64), in chunks. Gradients are added where training.
  double divergence(const at::Tensor& chosen, bool training) const {
    const at::AutoGradMode graph(training);
    const int64_t count = chosen.size(0), tokens = model_.target.size(1),
                  chunk = windows_per_chunk(tokens, chosen.device());
    double sum = 0;
    for (int64_t first = 0; first < count; first += chunk) {
      const at::Tensor part = chosen.narrow(0, first, std::min(chunk, count - first));
      sum += chunk_divergence(part, static_cast<double>(count * tokens), training);
    }
    return sum;
  }

  void write_to(ModelContext& model) const {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i].write_to(model.blocks[i]);
    model.gain = gain_.now();
    model.bias = bias_.now();
  }

 private:
  double chunk_divergence(const at::Tensor& chosen, double tokens, bool training) const {
    at::Tensor x = model_.embedded.index_select(0, chosen);
    std::vector<at::Tensor> inputs;  // of the blocks
    {
      const at::NoGradGuard no_graph;
      for (const TrainedBlock& block : blocks_) {
        if (training) inputs.push_back(x);
        x = block.forward(x, training);
      }
    }
    x.set_requires_grad(training);
    const double divergence = head_divergence(x, model_.target.index_select(0, chosen), tokens);
    for (size_t i = inputs.size(); i-- > 0;) {
      const at::Tensor gradient = x.grad();
      x = inputs[i].detach().set_requires_grad(i > 0);
      blocks_[i].forward(x, training).backward(gradient);
    }
    return divergence;
  }

  /// Divergence of the predictions behind `x` from those behind `target`, over `tokens`.
  double head_divergence(const at::Tensor& x, const at::Tensor& target, double tokens) const {
    const int64_t width = x.size(-1), rows = x.numel() / width,
                  step = std::max<int64_t>(1, (x.is_cpu() ? kLogits : kGpuLogits) / model_.lm_head.size(0));
    const at::Tensor flat = x.view({rows, width}), flat_target = target.view({rows, width});
    double sum = 0;
    for (int64_t first = 0; first < rows; first += step) {
      const int64_t count = std::min(step, rows - first);
      const at::Tensor wanted =
          log_probabilities(flat_target.narrow(0, first, count), model_.float_gain, model_.float_bias);
      const at::Tensor given = log_probabilities(flat.narrow(0, first, count), gain_.now(), bias_.now());
      const at::Tensor divergence = (wanted.exp() * (wanted - given)).sum() / tokens;
      if (divergence.requires_grad()) divergence.backward();
      sum += divergence.item<double>();
    }
    return sum;
  }

  at::Tensor log_probabilities(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias) const {
    at::Tensor logits = at::matmul(normalize(model_.spec, x, gain, bias), model_.lm_head.t());
    if (model_.lm_head_bias.defined()) logits.add_(model_.lm_head_bias);
    return at::log_softmax(logits, -1);
  }

  const ModelContext& model_;
  TrainedVector gain_, bias_;
  std::vector<TrainedBlock> blocks_;
};

}  // namespace

DistillationResult distill(ModelContext& model, const DistillationOptions& options) {
  const HeldOutWindows windows(model.embedded.size(0), model.embedded.device());
  const TrainedModel trained(model, options.scales);
  const std::vector<at::Tensor> parameters = trained.parameters();
  torch::optim::Adam optimizer(parameters,
                               torch::optim::AdamOptions(options.learning_rate).betas({0.9, 0.95}));
  at::Generator generator = at::detail::createCPUGenerator(options.seed);

  DistillationResult result;
  result.divergence_before = result.divergence_after = trained.divergence(windows.judged(), false);
  std::vector<at::Tensor> best;
  for (int64_t step = 1; step <= options.steps; ++step) {
    model.reporter.progress("training the whole model, steps", step - 1, options.steps);
    const double left = 1 - static_cast<double>(step - 1) / static_cast<double>(options.steps);
    for (auto& group : optimizer.param_groups()) group.options().set_lr(options.learning_rate * left);
    optimizer.zero_grad();
    trained.divergence(windows.draw(options.batch, generator), true);
    optimizer.step();
    if (step * kJudgements / options.steps == (step - 1) * kJudgements / options.steps) continue;
    const double divergence = trained.divergence(windows.judged(), false);
    if (!(divergence < result.divergence_after)) continue;
    result.divergence_after = divergence;
    result.step = step;
    best.clear();
    for (const at::Tensor& parameter : parameters) best.push_back(parameter.detach().clone());
  }
  model.reporter.progress("training the whole model, steps", options.steps, options.steps);
  if (best.empty()) return result;
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < best.size(); ++i) parameters[i].copy_(best[i]);
  trained.write_to(model);
  return result;
}

size_t distillation_bytes(const ModelSpec& spec, const DistillationOptions& options, int64_t windows,
                          int64_t tokens) {
  const int64_t parameters = spec.block_parameters();
  constexpr int64_t kLogitCopies = 10;  // of both models, their logarithms, the divergence's steps, gradients
  const int64_t chunk = std::min({options.batch, windows, windows_per_chunk(tokens)}),
                inputs = (spec.n_layers + 4) * chunk * tokens * spec.hidden_size,
                head = spec.vocab_size * spec.hidden_size,
                logits = std::min(kLogits, chunk * tokens * spec.vocab_size);
  const int64_t floats = spec.n_layers * parameters + inputs + head + kLogitCopies * logits;
  return static_cast<size_t>(floats) * sizeof(float) + static_cast<size_t>(spec.n_layers * parameters) +
         backward_bytes(spec, chunk, tokens);
}

}  // namespace tessera
