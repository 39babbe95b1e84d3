// The linear layers of a quantized checkpoint, one by one, on the model's own inputs: the reference
// arithmetic, the quantizer's simulation in libtorch and the kernels of this machine must agree to the last
// bit of the accumulator.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tessera/eval/kernel_check.h"

namespace tessera {

struct SimulationCheck {
  KernelCheck kernels;
  int64_t accumulators = 0;     ///< int32 sums compared; layers with 16-bit activations have none
  int64_t differing = 0;        ///< of these, between reference and simulation
  std::string first_differing;  ///< name of the first layer with any difference; empty when all agree
};

/// Runs every linear of the model in `dir` on up to 17 tokens of its own inputs, those that `window` makes.
/// Throws Error when the checkpoint is damaged or a float one.
SimulationCheck check_simulation(const std::filesystem::path& dir, const std::vector<int32_t>& window,
                                 Backend& backend);

}  // namespace tessera
