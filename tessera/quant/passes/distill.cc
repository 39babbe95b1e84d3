// Distillation of the float model into norms, output scales and biases of the quantized one.
#include "tessera/base/stopwatch.h"
#include "tessera/quant/passes/distillation.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class DistillPass : public Pass {
 public:
  explicit DistillPass(const PassOptions& options)
      : options_{.steps = options["steps"].integer<int64_t>(1, 1 << 20),
                 .batch = options["batch"].integer<int64_t>(1, 1 << 16),
                 .learning_rate = options["learning_rate"].number(0.0, 0.1),
                 .scales = options["scales"].boolean(),
                 .seed = options["seed"].integer<uint64_t>()} {}

  std::string name() const override { return "distill"; }
  bool refines() const override { return true; }
  bool trains_model() const override { return true; }
  int64_t least_windows() const override { return 2; }

  void check(const PassPlace& place) const override {
    if (!place.is_quantized()) throw Error("distill trains what is quantized; put it behind rtn or gptq");
  }

  void run_on_model(ModelContext& model) override {
    const Stopwatch watch;
    const DistillationResult result = distill(model, options_);
    model.report[name()] = {{"divergence_before", result.divergence_before},
                            {"divergence_after", result.divergence_after},
                            {"step", result.step},
                            {"kept", result.step > 0},
                            {"seconds", watch.seconds()}};
    model.reporter.note(
        result.step > 0
            ? fmt::format("distillation: divergence from the float model {:.4f} -> {:.4f} nats a token{}",
                          result.divergence_before, result.divergence_after,
                          options_.scales ? "; output scales have 24 bits now, which other formats round "
                                            "(distill.scales=false leaves them alone)"
                                          : "")
            : "distillation did not help and is left out");
  }

  double token_passes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    const auto trained = static_cast<double>(options_.steps * std::min(options_.batch, windows) * tokens);
    const double head = static_cast<double>(spec.vocab_size * spec.hidden_size) /
                        static_cast<double>(spec.n_layers * spec.block_parameters());
    return (trained * kTrainingPasses + 2.0 * static_cast<double>(windows * tokens)) * (1 + head);
  }

  size_t model_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    return distillation_bytes(spec, options_, windows, tokens);
  }

 private:
  DistillationOptions options_;
};

}  // namespace

PassInfo distill_pass_info() {
  return {"distill",
          "trains norms, output scales and biases of the whole model on the float model's predictions",
          {{"steps", 100},
           {"batch", 4},              // windows a step
           {"learning_rate", 0.001},  // relative to the values; falls to 0 linearly
           {"scales", true},          // also output scales, which float16 no longer holds exactly then
           {"seed", 0}}};             // of the windows of each step
}

std::unique_ptr<Pass> make_distill_pass(const PassOptions& options) {
  return std::make_unique<DistillPass>(options);
}

}  // namespace tessera
