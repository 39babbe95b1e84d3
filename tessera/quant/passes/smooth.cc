// Searched smoothing, site by site in order of execution: later sites see the quantized earlier ones.
#include "tessera/quant/passes/smoothing.h"

#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/fold.h"
#include "tessera/quant/block/site_output.h"
#include "tessera/quant/block/token_errors.h"
#include "tessera/quant/grid/gptq.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class SmoothPass : public Pass {
 public:
  explicit SmoothPass(const PassOptions& options)
      : tokens_(options["tokens"].integer<int64_t>(1, int64_t{1} << 40)),
        grid_{.linear = options["grid"].choice<bool>({{"geometric", false}, {"qqq", true}}),
              .points = options["points"].integer<int64_t>(4, 10000),
              .floor = options["floor"].number(1e-9, 1.0)},
        awq_(options["rule"].choice<bool>({{"outliers", false}, {"awq", true}})),
        judged_by_gptq_(options["judge"].choice<bool>({{"nearest", false}, {"gptq", true}})),
        least_gain_(options["least_gain"].number(0.0, 1.0)),
        share_heads_(options["shared_heads"].choice<bool>({{"max", true}, {"skip", false}})) {}

  std::string name() const override { return "smooth"; }

  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    at::Tensor scale;
    const LinearFn linear = [&](LinearId id, const at::Tensor& x) {
      const Site& site = context.spec.sites[site_index(context.spec, id)];
      if (id == site.readers.front()) scale = smooth_site(context, site, x);
      return rounded_output(context, id, context.block.weight[id], input_rounded(context, site, x / scale));
    };
    block_step(context.spec, context.block, linear, sample_windows(context.x_quant, tokens_));
  }

  double token_passes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    const auto sampled = static_cast<double>(sample_count(windows, tokens, tokens_) * tokens);
    const auto candidates = static_cast<double>(awq_ ? kAwqSteps : grid_.points + grid_.points / 2 + 2);
    // The search sees half of the sample, the judgement the other; errors before and after are reported of a
    // quarter.
    return sampled * (candidates / 2 + 3) + (candidates + 6) * kRoundingPasses +
           (judged_by_gptq_ ? 2 * solver_passes(spec) : 0);
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    int64_t widest = 0;
    for (const LinearSpec& linear : spec.linears) widest = std::max(widest, linear.k);
    return forward_bytes(spec, sample_count(windows, tokens, tokens_), tokens) + 2 * rounding_bytes(spec) +
           (judged_by_gptq_ ? factor_bytes(widest) : 0);
  }

 private:
  /// Chooses the scale of the site for input x [windows, tokens, K], folds it and returns it.
  at::Tensor smooth_site(BlockContext& context, const Site& site, const at::Tensor& x) const {
    const ModelSpec& spec = context.spec;
    SiteInputs inputs = describe(context, site, x);
    const at::Tensor none = at::ones_like(inputs.channel_absmax);
    const bool shared = spec.reads_attention(site) && spec.n_heads != spec.n_kv_heads;
    if (!can_fold_scale(spec, site) || (shared && !share_heads_)) return none;

    report_errors(context, site, x, "error_before");
    // Judged with weights rounded as they will be: what smoothing gains under rounding to nearest, GPTQ often
    // gains by itself.
    const SplitSample sample = split_sample(spec, context.block, site, x);
    const auto loss = [&](const at::Tensor& scale) {
      return error(context, site, sample.seen, scale, nearest(context, scale));
    };
    const auto shared_over_heads = [&](const at::Tensor& values) {
      return share_over_query_heads(spec, site, values);
    };
    Smoothing best = awq_
                         ? search_awq(shared_over_heads(weighted_tokens(inputs.sample).abs().mean({0})), loss)
                         : search_smoothing(shared_over_heads(inputs.scaling_absmax()), loss, grid_);
    const auto judge = [&](const at::Tensor& scale) {
      return error(
          context, site, sample.unseen, scale,
          judged_by_gptq_ ? calibrated(context, sample.seen.x / scale, scale) : nearest(context, scale));
    };
    const double judged = judge(best.scale), judged_unsmoothed = judge(none);
    const bool kept = judged < (1 - least_gain_) * judged_unsmoothed;
    if (!kept) best.scale = none;
    fold_scale(spec, context.block, site, best.scale);

    nlohmann::json report = inputs.statistics();
    const at::Tensor smoothed = x / best.scale;
    inputs = describe(context, site, smoothed);
    report_errors(context, site, smoothed, "error_after");
    report.update({{awq_ ? "exponent" : "sigma", best.parameter},
                   {"scaled_channels", (best.scale > 1).sum().item<int64_t>()},
                   {"largest_scale", best.scale.max().item<double>()},
                   {"loss", best.loss},
                   {"loss_unsmoothed", best.unsmoothed_loss},
                   {"judged", judged},
                   {"judged_unsmoothed", judged_unsmoothed},
                   {"kept", kept},
                   {"evaluations", best.evaluations},
                   {"after", inputs.statistics()}});
    report_site(context, site, name(), report);
    return best.scale;
  }

  static SiteInputs describe(const BlockContext& context, const Site& site, const at::Tensor& x) {
    const at::Tensor rows = x.reshape({-1, x.size(-1)}), window_absmax = at::amax(x.abs(), {1});
    const ActivationFormat& format = context.schemes[site.readers.front()].activation;
    SiteInputs inputs;
    inputs.channel_absmax = at::amax(window_absmax, {0});
    inputs.typical_absmax = typical_absmax(x);
    inputs.static_scale = static_scale(format, window_absmax, 1);
    inputs.sample = rows;
    return inputs;
  }

  /// The site's input as its first reader quantizes it.
  static at::Tensor input_rounded(const BlockContext& context, const Site& site, const at::Tensor& x) {
    const ActivationFormat& format = context.schemes[site.readers.front()].activation;
    return fake_quantize_rows(x, format, static_scale(format, at::amax(x.abs(), {1}), 1));
  }

  /// What `linear`, made for inputs divided by `scale`, does to the site's output.
  static double error(const BlockContext& context, const Site& site, const SiteSample& sample,
                      const at::Tensor& scale, const LinearFn& linear) {
    const at::Tensor output = site_output(context.spec, context.block, site, linear,
                                          input_rounded(context, site, sample.x / scale));
    return weighted_error(output, sample.output).item<double>();
  }

  /// The linears with their columns multiplied by `scale` and rounded to nearest.
  static LinearFn nearest(const BlockContext& context, const at::Tensor& scale) {
    return [&context, scale](LinearId id, const at::Tensor& x) {
      return rounded_output(context, id, context.block.weight[id] * scale, x);
    };
  }

  /// The same rounded by GPTQ for the inputs x [windows, tokens, K].
  static LinearFn calibrated(const BlockContext& context, const at::Tensor& x, const at::Tensor& scale) {
    constexpr double kDamping = 0.01;
    const at::Tensor rows = weighted_tokens(x.reshape({-1, x.size(-1)}));
    const at::Tensor hessian = at::matmul(rows.t(), rows);
    const auto factor = factor_hessian(hessian, kDamping, /*act_order=*/true);
    if (!factor) return nearest(context, scale);
    return [&context, scale, factor, importance = hessian.diagonal()](LinearId id, const at::Tensor& input) {
      const at::Tensor weight = context.block.weight[id] * scale;
      const WeightGrid grid =
          fit_grid(weight, context.schemes[id].weight, {.clip = Clip::kWeighted}, {importance, {}, {}});
      const at::Tensor rounded = dequantize(grid, gptq(weight, grid, *factor).codes);
      return biased_product(context, id, rounded.to(input.device()), input);
    };
  }

  /// The median error of every fourth token when the linears are rounded to nearest.
  void report_errors(BlockContext& context, const Site& site, const at::Tensor& inputs,
                     const char* key) const {
    const at::Tensor x = inputs.slice(1, 0, inputs.size(1), 4), rounded = input_rounded(context, site, x);
    for (LinearId id : site.readers) {
      const at::Tensor exact = biased_product(context, id, context.block.weight[id], x);
      const at::Tensor errors =
          token_errors(rounded_output(context, id, context.block.weight[id], rounded), exact);
      report_linear(context, id, name(), {{key, errors.median().item<double>()}});
    }
  }

  int64_t tokens_;
  SigmaGrid grid_;
  bool awq_, judged_by_gptq_;
  double least_gain_;
  bool share_heads_;
};

}  // namespace

PassInfo smooth_pass_info() {
  return {"smooth",
          "divides channels by searched scales that fold into the producer",
          {{"rule", "outliers"},       // outliers: max(1, channel maximum / sigma) | awq: mean^exponent
           {"tokens", 4096},           // calibration tokens: half to search with, half to judge with
           {"grid", "geometric"},      // geometric | qqq: linear down to 0.1, at least 100 points
           {"points", 12},             // of the geometric grid, before refinement
           {"floor", 1e-3},            // least sigma of the geometric grid, relative to the largest input
           {"judge", "gptq"},          // gptq | nearest: how weights round where the scale must beat none
           {"least_gain", 0.02},       // of the judged error: what a scale must save to be kept
           {"shared_heads", "max"}}};  // o_proj under grouped queries: max: one scale a value row | skip
}

std::unique_ptr<Pass> make_smooth_pass(const PassOptions& options) {
  return std::make_unique<SmoothPass>(options);
}

}  // namespace tessera
