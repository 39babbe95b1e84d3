// Channel scales by rule, without a search: from the maxima of the inputs over all calibration windows.
#include "tessera/quant/block/fold.h"
#include "tessera/quant/passes/passes.h"
#include "tessera/quant/passes/smoothing.h"

namespace tessera {
namespace {

enum class Sites { kAll, kNorms, kNormsAndGated };

class EqualizePass : public Pass {
 public:
  explicit EqualizePass(const PassOptions& options)
      : percentile_(options["rule"].choice<bool>({{"percentile", true}, {"smoothquant", false}})),
        fraction_(options["fraction"].number(0.0, 1.0)),
        alpha_(options["alpha"].number(0.0, 1.0)),
        sites_(options["sites"].choice<Sites>(
            {{"all", Sites::kAll}, {"norms", Sites::kNorms}, {"norms_and_gated", Sites::kNormsAndGated}})) {}

  std::string name() const override { return "equalize"; }

  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    // All maxima come from before the first fold: folding keeps what the block computes.
    const auto inputs = observe_sites(context.spec, context.block, float_linears(context.block),
                                      context.x_quant, context.schemes, {});
    for (size_t s = 0; s < inputs.size(); ++s) {
      if (applies_to(context.spec, context.spec.sites[s])) {
        equalize(context, context.spec.sites[s], inputs[s].scaling_absmax());
      }
    }
  }

  double token_passes(const ModelSpec& /*spec*/, int64_t windows, int64_t tokens) const override {
    return static_cast<double>(windows * tokens);
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    return observed_bytes(spec, windows, tokens, {}) +
           std::max(chunk_forward_bytes(spec, windows, tokens), rounding_bytes(spec));
  }

 private:
  bool applies_to(const ModelSpec& spec, const Site& site) const {
    if (!can_fold_scale(spec, site)) return false;
    const bool norm = site.producer == Site::Producer::kNorm;
    switch (sites_) {
      case Sites::kAll:
        return true;
      case Sites::kNorms:
        return norm;
      case Sites::kNormsAndGated:
        return norm || (spec.reads_mlp(site) && spec.gated());
    }
    return false;
  }

  at::Tensor scale_of(const BlockContext& context, const Site& site, const at::Tensor& absmax) const {
    if (percentile_) return percentile_scale(absmax, fraction_);
    at::Tensor weights = at::zeros_like(absmax);
    for (LinearId id : site.readers) {
      weights = at::maximum(weights, at::amax(context.block.weight[id].abs(), {0}));
    }
    return smoothquant_scale(absmax, share_over_query_heads(context.spec, site, weights), alpha_);
  }

  void equalize(BlockContext& context, const Site& site, const at::Tensor& channel_absmax) const {
    const at::Tensor absmax = share_over_query_heads(context.spec, site, channel_absmax);
    const at::Tensor scale = scale_of(context, site, absmax);
    fold_scale(context.spec, context.block, site, scale);
    nlohmann::json report = outlier_statistics(channel_absmax);
    report.update({{"scaled_channels", (scale != 1).sum().item<int64_t>()},
                   {"largest_scale", scale.max().item<double>()},
                   {"after", outlier_statistics(channel_absmax / scale)}});
    report_site(context, site, name(), report);
  }

  bool percentile_;
  double fraction_, alpha_;
  Sites sites_;
};

}  // namespace

PassInfo equalize_pass_info() {
  return {"equalize",
          "divides channels by scales that follow from their maxima and fold into the producer",
          {{"rule", "percentile"},          // percentile: clip the loudest channels | smoothquant
           {"fraction", 0.005},             // percentile: of the channels that are scaled down
           {"alpha", 0.5},                  // smoothquant: how much moves from activations to weights
           {"sites", "norms_and_gated"}}};  // all | norms | norms_and_gated: also behind a gated up_proj
}

std::unique_ptr<Pass> make_equalize_pass(const PassOptions& options) {
  return std::make_unique<EqualizePass>(options);
}

}  // namespace tessera
