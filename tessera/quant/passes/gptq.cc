// GPTQ on the final grid of every linear.
#include "tessera/quant/gptq.h"

#include "tessera/quant/fake_quant.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class GptqPass : public Pass {
 public:
  explicit GptqPass(const PassOptions& options)
      : grid_(grid_options(options)),
        act_order_(options.get<bool>("act_order")),
        damping_(options.in_range("damping", 1e-6, 10.0)),
        block_size_(options.in_range<int64_t>("block_size", 1, 1 << 16)),
        true_sequential_(options.get<bool>("true_sequential")),
        observe_{.hessian = true,
                 .quantized_input = options.get<bool>("quantized_input"),
                 .static_quantile = options.in_range("static_quantile", 0.0, 1.0)} {}

  std::string name() const override { return "gptq"; }

  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    std::vector<SiteInputs> inputs;
    for (size_t s = 0; s < context.spec.sites.size(); ++s) {
      if (s == 0 || true_sequential_) inputs = observe(context);
      quantize_site(context, context.spec.sites[s], inputs[s]);
      inputs[s] = {};
    }
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    int64_t largest = 0;
    for (const LinearSpec& linear : spec.linears) largest = std::max(largest, linear.k);
    const size_t solve = std::max(
        factor_bytes(largest), static_cast<size_t>(largest * largest) * sizeof(float) + rounding_bytes(spec));
    return observed_bytes(spec, windows, tokens, observe_) +
           std::max(chunk_forward_bytes(spec, windows, tokens), solve);
  }

 private:
  /// Linears that are already quantized act as such: with true_sequential later sites see what they give.
  std::vector<SiteInputs> observe(const BlockContext& context) const {
    const LinearFn exact = float_linears(context.block),
                   fake = fake_quant_linears(context.quantized, context.x_quant.device());
    const LinearFn linear = [&](LinearId id, const at::Tensor& x) {
      return context.quantized[id] ? fake(id, x) : exact(id, x);
    };
    return observe_sites(context.spec, context.block, linear, context.x_quant, context.schemes, observe_);
  }

  void quantize_site(BlockContext& context, const Site& site, const SiteInputs& inputs) const {
    const auto factor = factor_hessian(inputs.hessian, damping_, act_order_);
    nlohmann::json report = inputs.statistics();
    report["dead_channels"] = (inputs.channel_absmax == 0).sum().item<int64_t>();
    report_site(context, site, name(), std::move(report));
    if (!factor || factor->damping > damping_) {
      context.reporter.note(fmt::format(
          "layer {}, {}: the Hessian is not positive definite; {}", context.layer, site.name,
          factor ? fmt::format("damping raised to {}", factor->damping) : "rounding to nearest instead"));
    }
    for (LinearId id : site.readers) quantize(context, id, inputs, factor);
  }

  void quantize(BlockContext& context, LinearId id, const SiteInputs& inputs,
                const std::optional<HessianFactor>& factor) const {
    const at::Tensor& weight = context.block.weight[id];
    const LinearScheme& scheme = context.schemes[id];
    QuantizedLinear rounded = round_to_nearest(context, id, inputs);
    nlohmann::json report{{"error_rtn", output_error(rounded, weight, inputs.sample)}};
    if (factor) {
      // Group scales come from weights without dead columns, row scales from all ("QQQ", static groups).
      const at::Tensor kept = scheme.weight.group_size > 0 ? weight.masked_fill(factor->dead, 0) : weight;
      const WeightGrid grid = fit_grid(kept, scheme.weight, grid_, inputs.moments());
      const GptqResult result = gptq(weight, grid, *factor, block_size_);
      context.quantized[id] = make_quantized_linear(grid, result.codes, scheme.activation,
                                                    context.block.bias[id], inputs.static_scale);
      report.update({{"loss", result.loss}, {"damping", factor->damping}});
    } else {
      context.quantized[id] = std::move(rounded);
    }
    report["error"] = output_error(*context.quantized[id], weight, inputs.sample);
    report_linear(context, id, name(), report);
  }

  GridOptions grid_;
  bool act_order_;
  double damping_;
  int64_t block_size_;
  bool true_sequential_;
  ObserveOptions observe_;
};

}  // namespace

PassInfo gptq_pass_info() {
  return {"gptq",
          "rounds weights column by column, later columns make up for earlier errors",
          {{"act_order", true},         // columns by falling mean square of their input; groups stay static
           {"damping", 0.01},           // added to the Hessian's diagonal, relative to its mean
           {"block_size", 128},         // columns between two updates of all later ones
           {"clip", "weighted"},        // none | mse | weighted by the inputs' mean square | output error
           {"search", true},            // grouped: search the row scale instead of deriving it
           {"rerank", 8},               // clip output: row scales judged by the whole output error
           {"true_sequential", false},  // later sites of a block see its quantized earlier linears
           {"quantized_input", false},  // the Hessian sees quantized activations
           {"static_quantile", 1.0}}};  // static activations: over windows, of their channel maxima
}

std::unique_ptr<Pass> make_gptq_pass(const PassOptions& options) {
  return std::make_unique<GptqPass>(options);
}

}  // namespace tessera
