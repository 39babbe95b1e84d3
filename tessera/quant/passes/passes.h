// The passes and what they have in common. pass.cc lists them.
#pragma once

#include <chrono>

#include "tessera/quant/block/site_observer.h"
#include "tessera/quant/grid/weight_grid.h"
#include "tessera/quant/passes/options.h"

namespace tessera {

PassInfo correct_pass_info();
PassInfo distill_pass_info();
PassInfo equalize_pass_info();
PassInfo gptq_pass_info();
PassInfo outliers_pass_info();
PassInfo reassemble_pass_info();
PassInfo rotate_pass_info();
PassInfo rtn_pass_info();
PassInfo smooth_pass_info();
PassInfo tune_pass_info();
std::unique_ptr<Pass> make_correct_pass(const PassOptions& options);
std::unique_ptr<Pass> make_distill_pass(const PassOptions& options);
std::unique_ptr<Pass> make_equalize_pass(const PassOptions& options);
std::unique_ptr<Pass> make_gptq_pass(const PassOptions& options);
std::unique_ptr<Pass> make_outliers_pass(const PassOptions& options);
std::unique_ptr<Pass> make_reassemble_pass(const PassOptions& options);
std::unique_ptr<Pass> make_rotate_pass(const PassOptions& options);
std::unique_ptr<Pass> make_rtn_pass(const PassOptions& options);
std::unique_ptr<Pass> make_smooth_pass(const PassOptions& options);
std::unique_ptr<Pass> make_tune_pass(const PassOptions& options);

/// The options "clip", "search", "rerank" and "scale_bits".
GridOptions grid_options(const PassOptions& options);

/// Adds `values` to report["linears"][NAME][pass], and likewise for sites.
void report_linear(BlockContext& context, LinearId id, const std::string& pass, nlohmann::json values);
void report_site(BlockContext& context, const Site& site, const std::string& pass, nlohmann::json values);

/// Writes report["seconds"][pass] when it goes out of scope.
class PassTimer {
 public:
  PassTimer(BlockContext& context, std::string pass) : context_(context), pass_(std::move(pass)) {}
  ~PassTimer();
  PassTimer(const PassTimer&) = delete;
  PassTimer& operator=(const PassTimer&) = delete;

 private:
  BlockContext& context_;
  std::string pass_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Bytes to fit, round, pack and check one linear: float copies of its weight, codes, and the search's
/// errors.
size_t rounding_bytes(const ModelSpec& spec);

/// Token passes of a token that is trained on: forward, and backward to inputs and weights.
constexpr double kTrainingPasses = 3;
/// Token passes as costly as rounding all weights of a block to nearest, whatever their count (measured).
constexpr double kRoundingPasses = 1500;
/// Token passes (Pass::token_passes) as costly as the second moments of one token's inputs, and as
/// factorizing them and rounding a block's columns one after another.
double moment_passes(const ModelSpec& spec);
double solver_passes(const ModelSpec& spec);

/// The columns of the linear's weight that are quantized: all but its outliers.
at::Tensor base_weight(const BlockContext& context, LinearId id);
/// The moments of these columns' inputs: of the sample, or through the Hessian where there is one.
InputMoments base_moments(const BlockContext& context, LinearId id, const SiteInputs& inputs);
/// The linear of the grid's codes for base_weight, with the map of its input; its outlier columns get
/// `outlier_weight` [N, F], or what the block has there.
QuantizedLinear finish_linear(const BlockContext& context, LinearId id, const WeightGrid& grid,
                              const at::Tensor& codes, const SiteInputs& inputs,
                              const at::Tensor& outlier_weight = {});

/// x [..., K] times weight [N, K] in place of the linear's own, and its bias.
at::Tensor biased_product(const BlockContext& context, LinearId id, const at::Tensor& weight,
                          const at::Tensor& x);

/// The same with `weight` rounded to nearest: what searches judge their candidates by.
at::Tensor rounded_output(const BlockContext& context, LinearId id, const at::Tensor& weight,
                          const at::Tensor& x);

/// The linear rounded to nearest on the grid that its largest weights give: the baseline of every report.
QuantizedLinear round_to_nearest(const BlockContext& context, LinearId id, const SiteInputs& inputs);

}  // namespace tessera
