// Kernels against the definition: the linears of a quantized checkpoint, as a device computes them, must
// equal format/reference.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "tessera/base/reporter.h"
#include "tessera/kernels/backend.h"

namespace tessera {

struct KernelCheck {
  int64_t layers = 0;
  int64_t outputs = 0;      ///< compared with the reference's
  int64_t outputs_off = 0;  ///< of these, not equal; in layers with float columns or activations, whose sums
                            ///< may come in another order: further off than 1e-5 of the token's largest
                            ///< output (2e-3 where a GPU rounds inputs to 16 bits)
  std::string first_off;    ///< name of the first layer with such an output; empty when all are right
};

/// Runs `linear` on x [m, k_in] and adds to `check` how its outputs compare with `expected` [m, n], the
/// reference's. Scaled in the defined order, equal outputs mean equal accumulators.
void check_kernel(const std::string& name, const QuantizedLinear& linear, std::span<const float> x, int64_t m,
                  std::span<const float> expected, Backend& backend, KernelCheck& check);

/// Runs every quantized linear of the model in `dir` on 17 tokens at once and on single ones: random rows
/// (the same every time) with a few large channels, and rows of the extremes. Throws Error when the
/// checkpoint is damaged or a float one.
KernelCheck check_kernels(const std::filesystem::path& dir, Backend& backend, Reporter& reporter);

}  // namespace tessera
