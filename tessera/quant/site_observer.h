// What the linears of a block receive: second moments, channel maxima and samples of their inputs.
#pragma once

#include <vector>

#include "tessera/quant/pass.h"

namespace tessera {

/// The inputs of one site over the calibration tokens.
struct SiteInputs {
  int64_t tokens = 0;
  at::Tensor channel_absmax;  ///< [K]
  at::Tensor hessian;         ///< [K, K], 2 / tokens * sum of x x^T; undefined unless asked for
  at::Tensor sample;          ///< [about sample_tokens, K], spread over all windows

  /// absmax, median channel maximum and their ratio.
  nlohmann::json statistics() const;
};

struct ObserveOptions {
  bool hessian = false;
  bool quantized_input = false;  ///< the Hessian sees inputs as the integer layer will: fake-quantized
  int64_t sample_tokens = 1024;
};

/// Runs x [windows, tokens, hidden] through the block with `linear` and returns one entry a site of the spec.
std::vector<SiteInputs> observe_sites(const ModelSpec& spec, const Block& block, const LinearFn& linear,
                                      const at::Tensor& x,
                                      const std::array<LinearScheme, kLinearCount>& schemes,
                                      const ObserveOptions& options);

/// Bytes of what observe_sites returns; while it runs, those of a block on a chunk of tokens come on top.
size_t observed_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens, const ObserveOptions& options);

/// Index into spec.sites of the site that feeds `id`.
size_t site_index(const ModelSpec& spec, LinearId id);

/// ||fake(x) - x W^T|| / ||x W^T||: what quantizing weights and activations costs on the sample x [S, K].
double output_error(const QuantizedLinear& linear, const at::Tensor& weight, const at::Tensor& x);

}  // namespace tessera
