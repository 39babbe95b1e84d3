// The form that most tools' layers share, and the ways between it and ours.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tessera/format/quantized_linear.h"

namespace tessera::foreign {

/// w[n, k] = scale[n, g] * (code[n, k] - zero[n, g]), with g the group of input k. The scales are numbers,
/// not roundings of them: doubles hold the product of our two scales, 24 bits and at most 11, without loss.
struct AffineWeights {
  std::string where = {};                 ///< folder and linear, to open errors
  int bits = 4;                           ///< of a code, 2 to 8
  int64_t n = 0, k = 0;                   ///< outputs, inputs
  int64_t groups = 1;                     ///< of an output; 1: one scale an output
  std::vector<uint8_t> codes = {};        ///< [N, K], 0 .. 2^bits - 1
  std::vector<uint8_t> zeros = {};        ///< [N, groups], 0 .. 2^bits - 1; empty: 2^(bits - 1) everywhere
  std::vector<double> scales = {};        ///< [N, groups], of either sign
  std::vector<int32_t> input_group = {};  ///< [K]; empty: K / groups neighbouring inputs each

  int64_t group_size() const { return k / groups; }
  uint8_t middle() const { return static_cast<uint8_t>(1 << (bits - 1)); }
  uint8_t largest() const { return static_cast<uint8_t>((1 << bits) - 1); }
};

/// Throws Error naming both when config.json's "group_size" is not that of a linear of `k` inputs in `groups`
/// groups: -1 is one an output. Groups that differ in size are not judged here.
void check_group_size(const std::string& where, std::optional<int64_t> labelled, int64_t k, int64_t groups);

/// The same real weights, to the last bit, in the first of our formats that holds them:
///   one scale an output, no zero points   int4 (up to 4 bits) or int8
///   one scale an output, zero points      uint4 in one group (up to 4 bits), or int8 where code - zero fits
///   groups, up to 4 bits                  uint4-grouped where the scales of every output are integers, 1 to
///                                         127, times one float, and all products fit int8; else uint4-float
/// A negative scale turns its group's codes and zero point around. Inputs whose groups are not contiguous are
/// sorted by an input map. Throws Error when a scale is not finite, a zero point out of range, groups differ
/// in size, or no format holds the weights.
QuantizedLinear to_quantized_linear(AffineWeights weights, const ActivationFormat& activation);

/// The same real weights as those of `linear`, over its inputs: a map that permutes them becomes input_group.
/// `where` opens errors. Throws Error for a layer that is more than codes and scales: with outlier columns,
/// or a map that weighs, repeats or drops inputs.
AffineWeights to_affine_weights(const QuantizedLinear& linear, std::string where);

}  // namespace tessera::foreign
