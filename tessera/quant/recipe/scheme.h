// Target formats of the linears, and what a recipe can ask for. Free of libtorch, so that the command line
// can read it.
#pragma once

#include <string>

#include "tessera/format/quantized_linear.h"

namespace tessera {

/// What the weights of a linear become.
struct WeightScheme {
  int bits = 4;            ///< 4 to 8
  int64_t group_size = 0;  ///< 0: one scale an output; else a two-level grid with integer group scales
  bool symmetric = true;   ///< false: outputs (groups) have zero points of their own

  friend bool operator==(const WeightScheme&, const WeightScheme&) = default;
};

/// The target formats of one linear.
struct LinearScheme {
  WeightScheme weight;
  ActivationFormat activation;
};

/// "W4A8 g128", "W4A8 g128 zero points, static scales"
std::string to_string(const LinearScheme& scheme);

}  // namespace tessera
