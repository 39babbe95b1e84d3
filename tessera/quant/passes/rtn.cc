// Round to nearest: the baseline, and the last resort of others.
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class RtnPass : public Pass {
 public:
  explicit RtnPass(const PassOptions& options)
      : grid_{.clip = clip_option(options), .search = options.get<bool>("search")} {}

  std::string name() const override { return "rtn"; }

  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    const auto inputs = observe_sites(context.spec, context.block, float_linears(context.block),
                                      context.x_quant, context.schemes, {});
    for (size_t s = 0; s < inputs.size(); ++s) {
      const Site& site = context.spec.sites[s];
      report_site(context, site, name(), inputs[s].statistics());
      for (LinearId id : site.readers) quantize(context, id, inputs[s]);
    }
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    return observed_bytes(spec, windows, tokens, {}) +
           std::max(chunk_forward_bytes(spec, windows, tokens), rounding_bytes(spec));
  }

 private:
  void quantize(BlockContext& context, LinearId id, const SiteInputs& inputs) {
    const at::Tensor& weight = context.block.weight[id];
    const LinearScheme& scheme = context.schemes[id];
    const at::Tensor importance = inputs.sample.square().mean({0});
    const WeightGrid grid = fit_grid(weight, scheme.weight, grid_, importance);
    context.quantized[id] =
        make_quantized_linear(grid, round_to_grid(grid, weight), scheme.activation, context.block.bias[id],
                              static_input_scale(scheme.activation, inputs));
    report_linear(context, id, name(),
                  {{"error", output_error(*context.quantized[id], weight, inputs.sample)}});
  }

  GridOptions grid_;
};

}  // namespace

PassInfo rtn_pass_info() {
  return {"rtn",
          "rounds weights to the nearest code",
          {{"clip", "none"},     // none | mse | weighted by the inputs' mean square
           {"search", false}}};  // grouped: search integer scales instead of rounding them
}

std::unique_ptr<Pass> make_rtn_pass(const PassOptions& options) {
  return std::make_unique<RtnPass>(options);
}

}  // namespace tessera
