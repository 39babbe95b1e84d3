// Low-rank error correction of groups of blocks ("QLLM").
#include "tessera/quant/passes/correction.h"
#include "tessera/quant/passes/final_norm.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class CorrectPass : public Pass {
 public:
  explicit CorrectPass(const PassOptions& options)
      : options_{.rank = options["rank"].integer<int64_t>(1, 1 << 12),
                 .epochs = options["epochs"].integer<int64_t>(1, 1 << 16),
                 .batch = options["batch"].integer<int64_t>(1, 1 << 16),
                 .learning_rate = options["learning_rate"].number(1e-9, 1.0),
                 .norms = options["norms"].boolean(),
                 .seed = options["seed"].integer<uint64_t>()},
        blocks_(options["blocks"].integer<int64_t>(1, 1 << 12)),
        final_norm_(options["final_norm"].boolean()) {}

  std::string name() const override { return "correct"; }
  int64_t group_blocks() const override { return blocks_; }
  bool changes_final_norm() const override { return final_norm_; }
  bool keeps_function() const override { return false; }

  void check(const PassPlace& place) const override {
    if (place.is_quantized()) {
      throw Error("correct trains what comes before rounding; put it in front of the pass that quantizes");
    }
    for (LinearId id : place.spec.linear_ids()) {
      const ActivationFormat& activation = place.schemes[id].activation;
      if (activation.per_token && !activation.real_zero) continue;
      throw Error("{}: the correction needs activation scales per token and integer zero points",
                  place.spec.linears[id].name);
    }
  }

  void run_on_group(GroupContext& group) override {
    const PassTimer timer(group.blocks.back(), name());
    const CorrectionResult result = correct_blocks(group, options_);
    const bool kept = result.loss_after < result.loss_before;
    group.blocks.back().report[name()] = {{"blocks", group.blocks.size()},
                                          {"loss_before", result.loss_before},
                                          {"loss_after", result.loss_after},
                                          {"steps", result.steps},
                                          {"kept", kept}};
    if (kept) return;
    group.reporter.note(fmt::format("blocks {} to {}: the correction did not help and is left out",
                                    group.blocks.front().layer, group.blocks.back().layer));
  }

  void run_on_final_norm(FinalNormContext& norm) override {
    if (!final_norm_) return;
    const FinalNormFit fit = fit_final_norm(norm.last.spec, norm.gain, norm.bias, norm.x_float, norm.x_quant);
    const bool kept = fit.error_after < fit.error_before;
    norm.last.report[name()]["final_norm"] = {
        {"error_before", fit.error_before}, {"error_after", fit.error_after}, {"kept", kept}};
    if (kept) {
      norm.gain = fit.gain;
      norm.bias = fit.bias;
    } else {
      norm.last.reporter.note("final norm: fitting it did not help, and it stays as it is");
    }
  }

  double token_passes(const ModelSpec& /*spec*/, int64_t windows, int64_t tokens) const override {
    return static_cast<double>(options_.epochs * windows * tokens) * kTrainingPasses;
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t /*windows*/, int64_t tokens) const override {
    return correction_bytes(spec, std::min(blocks_, spec.n_layers), tokens, options_) + rounding_bytes(spec);
  }

 private:
  CorrectionOptions options_;
  int64_t blocks_;
  bool final_norm_;
};

}  // namespace

PassInfo correct_pass_info() {
  return {"correct",
          "trains low-rank corrections of consecutive blocks against the float model and merges them",
          {{"rank", 4},                // of the correction of every linear
           {"epochs", 10},             // over the calibration windows
           {"batch", 1},               // windows a step
           {"learning_rate", 0.0005},  // falls to 0 linearly
           {"blocks", 4},              // that are trained together
           {"norms", true},            // also train the norms' gains
           {"final_norm", false},      // also fit the norm behind the last block
           {"seed", 0}}};              // of the first matrices and the order of windows
}

std::unique_ptr<Pass> make_correct_pass(const PassOptions& options) {
  return std::make_unique<CorrectPass>(options);
}

}  // namespace tessera
