// A checkpoint, float or quantized, evaluated block by block in libtorch: the quantizer's own view of its
// result, by which the integer engine is judged.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tessera/quant/block/fake_quant.h"

namespace tessera {

/// Sees every quantized linear with its float input x [windows, tokens, K].
using LinearObserver =
    std::function<void(const std::string& name, const QuantizedLinear& linear, const at::Tensor& x)>;

/// Mean negative log-likelihood, in nats, of the next-token predictions of each window, which starts without
/// context. All windows are equally long, at least two tokens. Throws Error when the checkpoint is damaged.
std::vector<double> window_nll(const std::filesystem::path& model_dir,
                               std::span<const std::vector<int32_t>> windows,
                               const std::string& device = "cpu", const LinearObserver& observe = {});

}  // namespace tessera
