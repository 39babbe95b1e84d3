// Tuning of quantized blocks by gradients ("AutoRound").
#include "tessera/quant/passes/passes.h"
#include "tessera/quant/passes/tuning.h"

namespace tessera {
namespace {

class TunePass : public Pass {
 public:
  explicit TunePass(const PassOptions& options)
      : options_{.steps = options["steps"].integer<int64_t>(1, 1 << 20),
                 .batch = options["batch"].integer<int64_t>(1, 1 << 16),
                 .learning_rate = options["learning_rate"].number(0.0, 1.0),
                 .seed = options["seed"].integer<uint64_t>()} {}

  std::string name() const override { return "tune"; }
  bool refines() const override { return true; }
  int64_t least_windows() const override { return 2; }

  void check(const PassPlace& place) const override {
    if (!place.is_quantized()) {
      throw Error("tune trains what is quantized; put it behind rtn or gptq");
    }
    for (const auto& pass : place.earlier) {
      if (!pass->keeps_function()) {
        throw Error("tune needs the float model's block, which {} changes; leave one of them out",
                    pass->name());
      }
      if (pass->makes_sparse()) {
        throw Error("tune would fill the zeros of 2:4 sparse weights; set sparse to none, or leave tune out");
      }
    }
  }

  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    const TuningResult result = tune_block(context, options_);
    const bool kept = result.step > 0;
    context.report[name()] = {{"loss_before", result.loss_before},
                              {"loss_after", result.loss_after},
                              {"step", result.step},
                              {"kept", kept}};
    for (LinearId id : context.spec.linear_ids()) {
      report_linear(context, id, name(), {{"changed", result.changed[id]}});
    }
    if (kept) return;
    context.reporter.note(fmt::format("block {}: tuning did not help and is left out", context.layer));
  }

  double token_passes(const ModelSpec& /*spec*/, int64_t windows, int64_t tokens) const override {
    const auto trained = static_cast<double>(options_.steps * std::min(options_.batch, windows) * tokens);
    return trained * kTrainingPasses + static_cast<double>(options_.steps) * kRoundingPasses / 2 +
           2.0 * static_cast<double>(windows * tokens);  // targets, judgements
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    return tuning_bytes(spec, windows, tokens);
  }

 private:
  TuningOptions options_;
};

}  // namespace

PassInfo tune_pass_info() {
  return {
      "tune",
      "moves codes of a quantized block by gradients of its output's error",
      {{"steps", 100},
       {"batch", 4},              // windows a step
       {"learning_rate", 0.003},  // codes that usual gradients move in the first step; falls to 0 linearly
       {"seed", 0}}};             // of the windows of each step
}

std::unique_ptr<Pass> make_tune_pass(const PassOptions& options) {
  return std::make_unique<TunePass>(options);
}

}  // namespace tessera
