// The norm behind the last block, fitted to what quantized blocks give it ("QLLM", which trains it).
#pragma once

#include <ATen/ATen.h>

#include "tessera/arch/model_spec.h"

namespace tessera {

struct FinalNormFit {
  at::Tensor gain, bias;  ///< [hidden], float32; `bias` is undefined for RMSNorm
  /// Relative errors of the norm's output, on windows that judge: of the given gain and bias, and of those
  /// fitted to the other windows.
  double error_before = 0, error_after = 0;
};

/// The gain, for LayerNorm also the bias, by which the norm of x_quant comes nearest to the float model's
/// norm of x_float: for every channel the least squares over tokens, each with its weight (token_weights of
/// the reference). `gain` and `bias` are the float model's, both streams [windows, tokens, hidden]. Fitted to
/// all windows; judged by a fit to every second one on the others, or on the same where there is one. A
/// channel that is constant keeps its gain and bias.
FinalNormFit fit_final_norm(const ModelSpec& spec, const at::Tensor& gain, const at::Tensor& bias,
                            const at::Tensor& x_float, const at::Tensor& x_quant);

}  // namespace tessera
