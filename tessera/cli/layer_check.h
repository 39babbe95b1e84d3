// The linear layers of a quantized checkpoint, one by one: the reference arithmetic, the quantizer's
// simulation in libtorch and the kernels of this machine must agree to the last bit of the accumulator.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tessera/kernels/backend.h"

namespace tessera {

struct LayerCheck {
  int64_t layers = 0;
  int64_t accumulators = 0;  ///< int32 sums compared; layers with 16-bit activations have none
  int64_t differing = 0;     ///< of these, between reference and simulation
  int64_t outputs = 0;       ///< of the kernels, compared with the reference's
  int64_t outputs_off = 0;  ///< of these, not equal; with float columns or activations: further off than 1e-5
                            ///< of the layer's largest output
  std::string first_differing;  ///< name of the first layer with a difference; empty when all agree
};

/// Runs every linear of the model in `dir` on up to 17 tokens of its own inputs, those that `window` makes.
/// Throws Error when the checkpoint is damaged or a float one.
LayerCheck check_layers(const std::filesystem::path& dir, const std::vector<int32_t>& window,
                        Backend& backend);

}  // namespace tessera
