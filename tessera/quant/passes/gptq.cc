// GPTQ on the final grid of every linear.
#include "tessera/quant/grid/gptq.h"
#include "tessera/base/heap.h"

#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class GptqPass : public Pass {
 public:
  explicit GptqPass(const PassOptions& options)
      : grid_(grid_options(options)),
        act_order_(options["act_order"].boolean()),
        damping_(options["damping"].number(1e-6, 10.0)),
        block_size_(options["block_size"].integer<int64_t>(4, 1 << 16)),
        sparse_(options["sparse"].choice<Sparse>({{"none", Sparse::kNone},
                                                  {"attention", Sparse::kAttention},
                                                  {"mlp", Sparse::kMlp},
                                                  {"all", Sparse::kAll}})),
        true_sequential_(options["true_sequential"].boolean()),
        asymmetric_(options["asymmetric"].number(0.0, 1.0)),
        observe_{.hessian = true,
                 .quantized_input = options["quantized_input"].boolean(),
                 .cross = asymmetric_ > 0,
                 .static_quantile = options["static_quantile"].number(0.0, 1.0)} {}

  std::string name() const override { return "gptq"; }
  bool quantizes() const override { return true; }
  bool makes_sparse() const override { return sparse_ != Sparse::kNone; }

  void check(const PassPlace& place) const override {
    for (const auto& pass : place.earlier) {
      if (asymmetric_ == 0 || pass->group_blocks() == 0) continue;
      throw Error(
          "gptq: asymmetric needs the float model's activations, which are gone behind {}; set it to 0",
          pass->name());
    }
    for (LinearId id : place.spec.linear_ids()) {
      if (!wants_sparse(place.spec.role(id))) continue;
      const std::string& linear = place.spec.linears[id].name;
      if (place.follows("reassemble")) {
        throw Error("{}: 2:4 sparse weights order their inputs; they cannot be reassembled, too", linear);
      }
      if (place.schemes[id].weight.group_size > 0) {
        throw Error("{}: 2:4 sparse weights have one scale an output; set group_size to 0", linear);
      }
    }
  }

  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    std::vector<SiteInputs> inputs;
    for (size_t s = 0; s < context.spec.sites.size(); ++s) {
      if (s == 0 || true_sequential_) inputs = observe(context);
      quantize_site(context, context.spec.sites[s], inputs[s]);
      inputs[s] = {};
    }
  }

  double token_passes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    const auto observed = static_cast<double>(windows * tokens);
    const auto times = static_cast<double>(true_sequential_ ? spec.sites.size() : 1);
    return times * observed * (1 + moment_passes(spec)) + solver_passes(spec) + 3 * kRoundingPasses;
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    int64_t largest = 0;
    for (const LinearSpec& linear : spec.linears) largest = std::max(largest, linear.k);
    const size_t solve = std::max(
        factor_bytes(largest), static_cast<size_t>(largest * largest) * sizeof(float) + rounding_bytes(spec));
    // Asymmetric: the float model's inputs of a chunk, and a changed copy of the weight.
    const int copies = asymmetric_ > 0 ? 2 : 1;
    return observed_bytes(spec, windows, tokens, observe_) +
           std::max(copies * chunk_forward_bytes(spec, windows, tokens),
                    solve + (copies - 1) * rounding_bytes(spec));
  }

 private:
  /// Linears that are already quantized act as such: with true_sequential later sites see what they give.
  std::vector<SiteInputs> observe(const BlockContext& context) const {
    const LinearFn exact = float_linears(context.block),
                   fake = fake_quant_linears(context.quantized, context.x_quant.device());
    const LinearFn linear = [&](LinearId id, const at::Tensor& x) {
      return context.quantized[id] ? fake(id, x) : exact(id, x);
    };
    return observe_sites(context.spec, context.block, linear, context.x_quant, context.schemes, observe_,
                         asymmetric_ > 0 ? context.x_float : at::Tensor());
  }

  void quantize_site(BlockContext& context, const Site& site, const SiteInputs& inputs) const {
    const OutlierSplit& split = context.split[site.readers.front()];
    release_free_memory();  // of the site before, ahead of the largest matrices
    const auto factor = factor_hessian(inputs.hessian, damping_, act_order_, split);
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
    const LinearScheme& scheme = context.schemes[id];
    QuantizedLinear rounded = round_to_nearest(context, id, inputs);
    nlohmann::json report{{"error_rtn", output_error(rounded, context.block, id, inputs.sample)}};
    if (factor) {
      const OutlierSplit& split = context.split[id];
      const at::Tensor weight = target_weight(context.block.weight[id], inputs, *factor);
      // Group scales come from weights without dead columns, output scales from all ("QQQ", static groups).
      const at::Tensor kept = scheme.weight.group_size > 0 ? weight.masked_fill(factor->dead, 0) : weight;
      const bool sparse = sparsify(context, id, *factor);
      const WeightGrid grid =
          fit_grid(split.base_columns(kept), scheme.weight, grid_, base_moments(context, id, inputs));
      const GptqResult result = gptq(weight, grid, *factor, {block_size_, sparse});
      context.quantized[id] =
          finish_linear(context, id, grid, result.codes.cpu(), inputs, result.outlier_weight);
      if (sparse) gather_inputs(*context.quantized[id], factor->order);
      report.update({{"loss", result.loss}, {"damping", factor->damping}});
    } else {
      context.quantized[id] = std::move(rounded);
    }
    report["error"] = output_error(*context.quantized[id], context.block, id, inputs.sample);
    report_linear(context, id, name(), report);
  }

  /// The weight [N, K] to round: of all float weights the one whose output on the inputs that the linear will
  /// have comes nearest to the float model's ("GPTAQ", objective; solved in closed form).
  at::Tensor target_weight(const at::Tensor& weight, const SiteInputs& inputs,
                           const HessianFactor& factor) const {
    if (asymmetric_ == 0) return weight;
    const at::Tensor order = factor.order;
    const at::Tensor shift = at::matmul(weight, inputs.cross.t()).index_select(1, order);
    const at::Tensor solved = at::matmul(at::matmul(shift, factor.upper.t()), factor.upper);
    return weight.index_add(1, order, solved, -asymmetric_);
  }

  bool wants_sparse(LinearRole role) const {
    const bool attention = role == kQ || role == kK || role == kV || role == kO;
    return sparse_ != Sparse::kNone && sparse_ != (attention ? Sparse::kMlp : Sparse::kAttention);
  }

  /// Whether the linear becomes 2:4 sparse. Throws Error when its columns cannot.
  bool sparsify(const BlockContext& context, LinearId id, const HessianFactor& factor) const {
    if (!wants_sparse(context.spec.role(id))) return false;
    const int64_t columns = factor.order.size(0) - factor.outliers;
    if (columns % 4 != 0 || block_size_ % 4 != 0) {
      throw Error("{}: 2:4 sparsity needs columns and block_size in fours; there are {} and {}",
                  context.spec.linear_name(context.layer, id), columns, block_size_);
    }
    return true;
  }

  /// The codes of a sparse layer stand in the order of the factor: its inputs must, too.
  static void gather_inputs(QuantizedLinear& linear, const at::Tensor& order) {
    const at::Tensor index = order.narrow(0, 0, linear.k).to(at::kCPU, at::kInt).contiguous();
    linear.input_index = Tensor::from(
        std::span<const int32_t>(index.data_ptr<int32_t>(), static_cast<size_t>(linear.k)), {linear.k});
  }

  enum class Sparse : uint8_t { kNone, kAttention, kMlp, kAll };

  GridOptions grid_;
  bool act_order_;
  double damping_;
  int64_t block_size_;
  Sparse sparse_;
  bool true_sequential_;
  double asymmetric_;  ///< share of the step from the float weight to the best one for quantized inputs
  ObserveOptions observe_;
};

}  // namespace

PassInfo gptq_pass_info() {
  return {"gptq",
          "rounds weights column by column, later columns make up for earlier errors",
          {{"act_order", true},   // columns by falling mean square of their input, else as they are, or by
                                  // rising maximum where outliers were selected; groups stay static
           {"damping", 0.01},     // added to the Hessian's diagonal, relative to its mean
           {"block_size", 128},   // columns between two updates of all later ones
           {"sparse", "none"},    // none | attention | mlp | all: 2:4 zeros in these linears
           {"clip", "weighted"},  // none | mse | weighted by the inputs' mean square | output error
           {"search", true},      // grouped: search the output scale instead of deriving it
           {"rerank", 8},         // clip output: output scales judged by the whole output error
           {"scale_bits", 0},  // significant bits of output scales; 0: as float16 holds them, 11, in groups 7
           {"true_sequential", false},  // later sites of a block see its quantized earlier linears
           {"asymmetric", 0.0},  // 0 to 1: how far weights first make up for what reaches them in place of
                                 // the float model's activations (GPTAQ); overfits where tokens
                                 // do not far outnumber a layer's inputs
           {"quantized_input", false},  // the Hessian sees quantized activations
           {"static_quantile", 1.0}}};  // static activations: over windows, of their channel maxima
}

std::unique_ptr<Pass> make_gptq_pass(const PassOptions& options) {
  return std::make_unique<GptqPass>(options);
}

}  // namespace tessera
