// Rotary position tables: the one definition that both executors rotate with.
#pragma once

#include <vector>

#include "tessera/format/model_config.h"

namespace tessera {

/// Radians a position of each pair of channels, [head_dim / 2]: theta^(-2i / head_dim), scaled as `rope` says
/// ("linear": divided by the factor; "llama3": wavelengths beyond original_context / low_freq_factor are
/// divided, those below original_context / high_freq_factor kept, those between interpolated).
std::vector<double> rope_frequencies(const RopeConfig& rope, int64_t head_dim);

/// [positions, head_dim / 2] each.
struct RopeAngles {
  std::vector<float> cos, sin;
};

/// Cosines and sines of positions 0 .. positions - 1, computed in double.
RopeAngles rope_angles(const RopeConfig& rope, int64_t head_dim, int64_t positions);

}  // namespace tessera
