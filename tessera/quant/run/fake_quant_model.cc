// Perplexity by fake quantization.
#include "tessera/quant/run/fake_quant_model.h"

#include <ATen/Parallel.h>

#include <functional>
#include <optional>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/load_linear.h"
#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/streams.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/run/run_checks.h"

namespace tessera {
namespace {

class FakeQuantModel {
 public:
  FakeQuantModel(const std::filesystem::path& dir, const std::string& device)
      : config_(ModelConfig::load(dir)),
        checkpoint_(dir),
        spec_(make_model_spec(config_, checkpoint_)),
        device_(parse_device(device)),
        quantization_(read_quantization_config(config_)) {
    check_tensors(spec_, checkpoint_);
    if (quantization_ && quantization_->recipe.is_null()) {
      throw Error("{}: quantized by another tool; only what tessera quantize made can be simulated",
                  config_.file());
    }
  }

  /// Hidden states behind the last block, [windows, tokens, hidden].
  at::Tensor hidden(std::span<const std::vector<int32_t>> windows, const LinearObserver& observe) const {
    const auto tensor = [&](const std::string& name) { return checkpoint_.at(name); };
    at::Tensor x = embed_windows(spec_, tensor, windows, device_);
    for (int64_t layer = 0; layer < spec_.n_layers; ++layer) run_block(layer, observe, x);
    return x;
  }

  /// One value a window of `x`.
  std::vector<double> nll(const at::Tensor& x, std::span<const std::vector<int32_t>> windows) const {
    const at::Tensor gain = optional_tensor(spec_.final_norm + ".weight"),
                     bias = optional_tensor(spec_.final_norm + ".bias");
    const auto head = lm_head();
    std::vector<double> result;
    for (size_t i = 0; i < windows.size(); ++i) {
      const auto predictions = static_cast<int64_t>(windows[i].size()) - 1;
      const at::Tensor last = x[static_cast<int64_t>(i)].narrow(0, 0, predictions);
      const at::Tensor logits = head(normalize(spec_, last, gain, bias));
      const std::vector<int64_t> next(windows[i].begin() + 1, windows[i].end());
      const at::Tensor targets = at::tensor(next).to(device_).unsqueeze(1);
      result.push_back(-at::log_softmax(logits, -1).gather(1, targets).mean(at::kDouble).item<double>());
    }
    return result;
  }

 private:
  /// From normalized hidden states to logits.
  std::function<at::Tensor(const at::Tensor&)> lm_head() const {
    if (const std::string name = spec_.lm_head_name(); is_quantized(checkpoint_, name)) {
      const FakeQuantLinear codes(
          load_quantized_linear(checkpoint_, name, *quantization_, spec_.vocab_size, spec_.hidden_size),
          device_);
      return [codes](const at::Tensor& x) { return codes.forward(x); };
    }
    const at::Tensor weight = optional_tensor(spec_.lm_head).t(),
                     bias = optional_tensor(spec_.lm_head_bias());
    return [weight, bias](const at::Tensor& x) {
      const at::Tensor logits = at::matmul(x, weight);
      return bias.defined() ? logits + bias : logits;
    };
  }

  /// Undefined when the checkpoint does not hold it.
  at::Tensor optional_tensor(const std::string& name) const {
    return checkpoint_.contains(name) ? to_float_tensor(checkpoint_.at(name), device_) : at::Tensor();
  }

  void run_block(int64_t layer, const LinearObserver& observe, at::Tensor& x) const {
    if (!quantization_) {
      const Block block = load_block(checkpoint_, spec_, layer, device_);
      return propagate(spec_, block, float_linears(block), x);
    }
    Block norms = load_norms(checkpoint_, spec_, layer, device_);
    norms.kv_format = quantization_->kv_format;
    const auto quantized = load_quantized_linears(checkpoint_, spec_, layer, *quantization_);
    const LinearFn linears = fake_quant_linears(quantized, device_);
    const LinearFn observed = [&](LinearId id, const at::Tensor& input) {
      if (observe) observe(spec_.linear_name(layer, id), *quantized[id], input);
      return linears(id, input);
    };
    propagate(spec_, norms, observed, x);
  }

  ModelConfig config_;
  Checkpoint checkpoint_;
  ModelSpec spec_;
  at::Device device_;
  std::optional<QuantizationConfig> quantization_;  ///< absent in float checkpoints
};

}  // namespace

std::vector<double> window_nll(const std::filesystem::path& model_dir,
                               std::span<const std::vector<int32_t>> windows, const std::string& device,
                               const LinearObserver& observe) {
  at::set_num_threads(thread_count());
  const FakeQuantModel model(model_dir, device);
  return model.nll(model.hidden(windows, observe), windows);
}

}  // namespace tessera
