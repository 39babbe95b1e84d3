// Rounding that gradients pass through.
#pragma once

#include <ATen/ATen.h>

#include "tessera/format/quantized_linear.h"

namespace tessera {

/// The values of fake_quantize_rows, differentiable ("QLLM", error correction): rounding is the identity to
/// gradients, clamped values pass none, and the scale follows the row's extremes, equal ones in equal parts.
/// Rows have scales of their own (per_token).
at::Tensor round_rows_straight_through(const at::Tensor& x, const ActivationFormat& format);

/// The same for every format. Static scales are constants, and so are scales beside real zero points;
/// weight-only formats give x itself.
at::Tensor round_straight_through(const at::Tensor& x, const ActivationFormat& format, float static_scale);

}  // namespace tessera
