// Reporting and rounding shared by the passes.
#include "tessera/quant/passes/passes.h"

namespace tessera {

Clip clip_option(const PassOptions& options) {
  return options.choice<Clip>("clip",
                              {{"none", Clip::kNone}, {"mse", Clip::kMse}, {"weighted", Clip::kWeighted}});
}

void report_linear(BlockContext& context, LinearId id, const std::string& pass, nlohmann::json values) {
  context.report["linears"][context.spec.linears[id].name][pass].update(values);
}

void report_site(BlockContext& context, const Site& site, const std::string& pass, nlohmann::json values) {
  context.report["sites"][site.name][pass].update(values);
}

PassTimer::~PassTimer() {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  context_.report["seconds"][pass_] = elapsed.count();
}

size_t rounding_bytes(const ModelSpec& spec) {
  int64_t largest = 0;
  for (const LinearSpec& linear : spec.linears) largest = std::max(largest, linear.n * linear.k);
  return static_cast<size_t>(largest) * (4 * sizeof(float) + 2);
}

float static_input_scale(const ActivationFormat& format, const SiteInputs& inputs) {
  if (format.per_token) return 0;
  const float absmax = inputs.channel_absmax.max().item<float>();
  return (absmax > 0 ? absmax : 1) / static_cast<float>((1 << (format.bits - 1)) - 1);
}

QuantizedLinear round_to_nearest(const BlockContext& context, LinearId id, const SiteInputs& inputs) {
  const LinearScheme& scheme = context.schemes[id];
  const at::Tensor& weight = context.block.weight[id];
  const WeightGrid grid = fit_grid(weight, scheme.weight, {.search = false});
  return make_quantized_linear(grid, round_to_grid(grid, weight), scheme.activation, context.block.bias[id],
                               static_input_scale(scheme.activation, inputs));
}

}  // namespace tessera
