// Outlier columns: the few input channels that a linear keeps in floating point ("QUIK", selection).
#pragma once

#include <ATen/ATen.h>

#include "tessera/format/quantized_linear.h"

namespace tessera {

/// The channels of one site, loudest last, and how many of the last ones bypass quantization.
struct OutlierSplit {
  at::Tensor order;   ///< int64 [K]: all channels by rising maximum; undefined: no selection was made
  int64_t count = 0;  ///< F

  /// The last `count` of the order as int64 [F], ascending.
  at::Tensor outliers() const;
  /// The columns of tensor [..., K] that are quantized, in natural order; `tensor` itself without outliers.
  at::Tensor base_columns(const at::Tensor& tensor) const;
};

/// Splits channels by their maxima [K]. Equal maxima: the smaller index counts as quieter.
OutlierSplit split_outliers(const at::Tensor& channel_absmax, int64_t count);

/// How many outliers the sites of a model have.
struct OutlierRule {
  int64_t count = 256;          ///< at a site as wide as the residual stream
  double max_share = 1.0 / 16;  ///< of the residual stream: keeps small models from going float
  int64_t alignment = 64;       ///< K - F is a multiple of it; at most 16 below kNarrowSite channels
};
constexpr int64_t kNarrowSite = 2048;

/// F of a site with K = `width` inputs: the rule's count in proportion to width / hidden, rounded up to 16,
/// then up until width - F is aligned ("QUIK", 3.5 times more at the down projection of a 70B model).
/// `group_size`: of the weights' grid, which must divide width - F, too; 0 for none.
int64_t outlier_count(const OutlierRule& rule, int64_t width, int64_t hidden, int64_t group_size);

/// Makes columns `index` (int64 [F], ascending) of the layer's input floating-point ones with `weight` [N,
/// F], rounded to half precision.
void attach_outliers(QuantizedLinear& linear, const at::Tensor& index, const at::Tensor& weight);

}  // namespace tessera
