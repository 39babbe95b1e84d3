// Round to nearest: the baseline, and the last resort of others.
#include <algorithm>
#include <optional>

#include "tessera/base/heap.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class RtnPass : public Pass {
 public:
  explicit RtnPass(const PassOptions& options)
      : grid_(grid_options(options)),
        observe_(observe_options(options, grid_.clip == Clip::kOutput)),
        group_scales_(options["scales"].choice<std::optional<GroupScales>>(
            {{"integer", {}}, {"float", GroupScales::kFloat}, {"wrapped", GroupScales::kWrapped}})) {}

  std::string name() const override { return "rtn"; }
  bool quantizes() const override { return true; }
  bool needs_calibration(const PassPlace& place) const override {
    const auto is_static = [&](LinearId id) { return !place.schemes[id].activation.per_token; };
    const bool weighs_inputs = grid_.clip == Clip::kWeighted || grid_.clip == Clip::kOutput ||
                               (grid_.clip == Clip::kNone && grid_.search);
    return weighs_inputs || std::ranges::any_of(place.spec.linear_ids(), is_static);
  }

  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    std::vector<SiteInputs> inputs(context.spec.sites.size());
    if (context.x_quant.defined()) {
      inputs = observe_sites(context.spec, context.block, float_linears(context.block), context.x_quant,
                             context.schemes, observe_);
    }
    for (size_t s = 0; s < inputs.size(); ++s) {
      const Site& site = context.spec.sites[s];
      if (inputs[s].sample.defined()) report_site(context, site, name(), inputs[s].statistics());
      for (LinearId id : site.readers) quantize(context, id, inputs[s]);
      release_free_memory();
    }
  }

  double token_passes(const ModelSpec& /*spec*/, int64_t windows, int64_t tokens) const override {
    constexpr double kSearched = 15;  // roundings of a search for scales
    return static_cast<double>(windows * tokens) + (grid_.search ? kSearched : 1) * kRoundingPasses;
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    return observed_bytes(spec, windows, tokens, observe_) +
           std::max(chunk_forward_bytes(spec, windows, tokens), rounding_bytes(spec));
  }

 private:
  static ObserveOptions observe_options(const PassOptions& options, bool moments) {
    const bool quantized = options["objective"].choice<bool>({{"float", false}, {"quantized", true}});
    return {.hessian = moments,
            .quantized_input = moments && quantized,
            .cross = moments && quantized,
            .last_window = options["samples"].choice<bool>({{"all", false}, {"last", true}}),
            .static_quantile = options["static_quantile"].number(0.0, 1.0)};
  }

  void quantize(BlockContext& context, LinearId id, const SiteInputs& inputs) {
    const LinearScheme& scheme = context.schemes[id];
    const bool compared = group_scales_ && scheme.weight.group_size > 0;
    const InputMoments moments = inputs.sample.defined() ? base_moments(context, id, inputs) : InputMoments();
    at::Tensor weight = base_weight(context, id);
    if (compared) weight = round_group_wise(weight, scheme.weight, *group_scales_, grid_.clip, moments);
    const WeightGrid grid =
        compared ? fit_grid(weight, {8, 0}, {}) : fit_grid(weight, scheme.weight, grid_, moments);
    context.quantized[id] = finish_linear(context, id, grid, round_to_grid(grid, weight), inputs);
    if (!inputs.sample.defined()) return;
    report_linear(context, id, name(),
                  {{"error", output_error(*context.quantized[id], context.block, id, inputs.sample)}});
  }

  GridOptions grid_;
  ObserveOptions observe_;
  std::optional<GroupScales> group_scales_;  ///< other than the integer ones that run
};

}  // namespace

PassInfo rtn_pass_info() {
  return {"rtn",
          "rounds weights to the nearest code",
          {{"clip", "none"},       // none | mse | weighted by the inputs' mean square | output error
           {"search", false},      // grouped: search the output scale instead of deriving it
           {"scales", "integer"},  // grouped: integer | float, wrapped: to compare with, in 8-bit weights
           {"rerank", 8},          // clip output: output scales judged by the whole output error
           {"scale_bits", 0},  // significant bits of output scales; 0: as float16 holds them, 11, in groups 7
           {"objective", "float"},      // clip output: error for float | quantized inputs
           {"samples", "all"},          // clip output: windows that count: all | last
           {"static_quantile", 1.0}}};  // static activations: over windows, of their channel maxima
}

std::unique_ptr<Pass> make_rtn_pass(const PassOptions& options) {
  return std::make_unique<RtnPass>(options);
}

}  // namespace tessera
