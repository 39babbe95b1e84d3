// Reporting and rounding shared by the passes.
#include "tessera/quant/passes/passes.h"

namespace tessera {

GridOptions grid_options(const PassOptions& options) {
  return {.clip = options.choice<Clip>("clip", {{"none", Clip::kNone},
                                                {"mse", Clip::kMse},
                                                {"weighted", Clip::kWeighted},
                                                {"output", Clip::kOutput}}),
          .search = options.get<bool>("search"),
          .rerank = options.in_range<int64_t>("rerank", 1, 1000)};
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
  int64_t largest = 0, widest = 0;
  for (const LinearSpec& linear : spec.linears) {
    largest = std::max(largest, linear.n * linear.k);
    widest = std::max(widest, linear.k);
  }
  return static_cast<size_t>(largest) * (4 * sizeof(float) + 2) + fit_bytes(widest);
}

QuantizedLinear round_to_nearest(const BlockContext& context, LinearId id, const SiteInputs& inputs) {
  const LinearScheme& scheme = context.schemes[id];
  const at::Tensor& weight = context.block.weight[id];
  const WeightGrid grid = fit_grid(weight, scheme.weight, {.search = false});
  return make_quantized_linear(grid, round_to_grid(grid, weight), scheme.activation, context.block.bias[id],
                               inputs.static_scale);
}

}  // namespace tessera
