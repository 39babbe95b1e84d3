// Reporting and rounding shared by the passes.
#include "tessera/quant/passes/passes.h"

#include "tessera/quant/block/token_errors.h"

namespace tessera {

GridOptions grid_options(const PassOptions& options) {
  return {.clip = options["clip"].choice<Clip>({{"none", Clip::kNone},
                                                {"mse", Clip::kMse},
                                                {"weighted", Clip::kWeighted},
                                                {"output", Clip::kOutput}}),
          .search = options["search"].boolean(),
          .rerank = options["rerank"].integer<int64_t>(1, 1000),
          .scale_bits = options["scale_bits"].integer<int>(0, 24)};
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

at::Tensor base_weight(const BlockContext& context, LinearId id) {
  return context.split[id].base_columns(context.block.weight[id]);
}

InputMoments base_moments(const BlockContext& context, LinearId id, const SiteInputs& inputs) {
  const OutlierSplit& split = context.split[id];
  const auto square = [&](const at::Tensor& matrix) {
    return matrix.defined() ? split.base_columns(split.base_columns(matrix).t()).t() : matrix;
  };
  const at::Tensor mean_square =
      inputs.hessian.defined()
          ? inputs.hessian.diagonal()
          : weighted_tokens(mapped_input(context.block, id, inputs.sample)).square().mean({0});
  return {split.base_columns(mean_square), square(inputs.hessian), square(inputs.cross)};
}

double moment_passes(const ModelSpec& spec) {
  double products = 0;
  for (const Site& site : spec.sites) {
    const auto k = static_cast<double>(spec.linears[site.readers.front()].k);
    products += k * k;
  }
  return products / static_cast<double>(spec.block_parameters());
}

double solver_passes(const ModelSpec& spec) {
  double products = 0;
  for (const Site& site : spec.sites) {
    const auto k = static_cast<double>(spec.linears[site.readers.front()].k);
    products += k * k * k;
  }
  for (const LinearSpec& linear : spec.linears) {
    const auto n = static_cast<double>(linear.n), k = static_cast<double>(linear.k);
    products += n * k * k;
  }
  return products / static_cast<double>(spec.block_parameters());
}

QuantizedLinear finish_linear(const BlockContext& context, LinearId id, const WeightGrid& grid,
                              const at::Tensor& codes, const SiteInputs& inputs,
                              const at::Tensor& outlier_weight) {
  const ActivationFormat& activation = context.schemes[id].activation;
  const OutlierSplit& split = context.split[id];
  // Static scales need not cover outliers.
  const float scale =
      split.count == 0 ? inputs.static_scale
                       : static_scale(activation, split.base_columns(inputs.channel_absmax).unsqueeze(0), 1);
  QuantizedLinear linear = make_quantized_linear(grid, codes, activation, context.block.bias[id], scale);
  if (split.count > 0) {
    const at::Tensor index = split.outliers();
    attach_outliers(
        linear, index,
        outlier_weight.defined() ? outlier_weight : context.block.weight[id].index_select(1, index));
  }
  context.block.map[id].attach(linear);
  return linear;
}

at::Tensor biased_product(const BlockContext& context, LinearId id, const at::Tensor& weight,
                          const at::Tensor& x) {
  const at::Tensor y = at::matmul(x, weight.t());
  return context.block.bias[id].defined() ? y + context.block.bias[id] : y;
}

at::Tensor rounded_output(const BlockContext& context, LinearId id, const at::Tensor& weight,
                          const at::Tensor& x) {
  const WeightGrid grid = fit_grid(weight, context.schemes[id].weight, {.search = false});
  return biased_product(context, id, fake_quantize_weight(grid, weight), x);
}

QuantizedLinear round_to_nearest(const BlockContext& context, LinearId id, const SiteInputs& inputs) {
  const at::Tensor weight = base_weight(context, id);
  const WeightGrid grid = fit_grid(weight, context.schemes[id].weight, {.search = false, .scale_bits = 0});
  return finish_linear(context, id, grid, round_to_grid(grid, weight), inputs);
}

}  // namespace tessera
