// What the linears of a block receive: second moments, channel maxima and samples of their inputs.
#pragma once

#include <vector>

#include "tessera/quant/block/block.h"
#include "tessera/quant/recipe/scheme.h"

namespace tessera {

/// absmax, median channel maximum and their ratio.
nlohmann::json outlier_statistics(const at::Tensor& channel_absmax);

/// The inputs of one site over the calibration tokens. Columns are those behind the site's map.
struct SiteInputs {
  at::Tensor channel_absmax;  ///< [K]
  at::Tensor typical_absmax;  ///< [K]: of the weighted tokens (token_errors.h)
  float static_scale = 0;     ///< of the activation codes; 0 for per-token formats
  at::Tensor hessian;         ///< [K, K], 2 / tokens * weighted sum of x x'; undefined unless asked for
  at::Tensor cross;   ///< [K, K], 2 / tokens * weighted sum of xh (xh - x)'; undefined unless asked for
  at::Tensor sample;  ///< [about sample_tokens, K in front of the map], spread over all windows

  nlohmann::json statistics() const { return outlier_statistics(channel_absmax); }
  /// The maxima that channel scales follow: of all tokens where they share one scale, else the typical ones.
  const at::Tensor& scaling_absmax() const { return static_scale > 0 ? channel_absmax : typical_absmax; }
};

struct ObserveOptions {
  bool hessian = false;
  bool quantized_input = false;  ///< the Hessian sees inputs as the integer layer will: xh, fake-quantized
  bool cross = false;            ///< also what becomes of the output because linears see xh instead of x
  bool last_window = false;      ///< Hessian of the last window only ("DGQ", released code)
  /// Static scales cover this quantile over the windows of the windows' channel maxima.
  double static_quantile = 1;
  int64_t sample_tokens = 1024;
};

/// The static scale that covers a quantile over windows of the channel maxima [windows, K]: 1 covers all, 0
/// is each channel's quietest window ("DGQ", static activations). 0 for per-token formats.
float static_scale(const ActivationFormat& format, const at::Tensor& window_absmax, double quantile);

/// Runs x [windows, tokens, hidden] through the block with `linear` and returns one entry a site of the spec.
/// `reference`: the block's input in the float model. Where it is given, `cross` compares with what the sites
/// receive there ("GPTAQ", asymmetric calibration).
std::vector<SiteInputs> observe_sites(const ModelSpec& spec, const Block& block, const LinearFn& linear,
                                      const at::Tensor& x, const PerLinear<LinearScheme>& schemes,
                                      const ObserveOptions& options, const at::Tensor& reference = {});

/// Bytes of what observe_sites returns; while it runs, those of a block on a chunk of tokens come on top.
size_t observed_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens, const ObserveOptions& options);

/// Index into spec.sites of the site that feeds `id`.
size_t site_index(const ModelSpec& spec, LinearId id);

/// Median over the sample x [S, K] of ||fake(x) - x W^T|| / ||x W^T||: what quantizing weights and
/// activations of linear `id` costs a token.
double output_error(const QuantizedLinear& linear, const Block& block, LinearId id, const at::Tensor& x);

}  // namespace tessera
