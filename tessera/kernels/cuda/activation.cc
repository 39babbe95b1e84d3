// Checks of quantize_activations.
#include "tessera/kernels/cuda/activation.h"

#include <fmt/format.h>

#include "tessera/base/error.h"

namespace tessera::cuda {

/// Defined in activation.cu.
void launch_activation(const ActivationProblem& problem, cudaStream_t stream, bool overlap_previous);

std::string activation_obstacle(const ActivationProblem& p) {
  constexpr int64_t kMaxInputs = 32768, kMaxTokens = (int64_t{1} << 31) - 1;
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  const bool norm = p.source == ActivationSource::kRmsNorm || p.source == ActivationSource::kLayerNorm;
  if (p.m < 1 || p.m > kMaxTokens) return fmt::format("M is {}, not in 1 .. 2^31 - 1", p.m);
  if (p.k < 16 || p.k % 16 != 0 || p.k > kMaxInputs) {
    return fmt::format("K is {}, not a multiple of 16 in 16 .. {}", p.k, kMaxInputs);
  }
  if (p.bits < 2 || p.bits > 8) return fmt::format("bits is {}, not in 2 .. 8", p.bits);
  if (p.type == OutputType::kAccumulator) return "type is int32: activations are float, half or bfloat16";
  if (p.stride < p.k || p.stride % 8 != 0)
    return fmt::format("stride {} is no multiple of 8 of at least K", p.stride);
  if (p.codes_stride < p.k || p.codes_stride % 16 != 0) {
    return fmt::format("codes_stride {} is no multiple of 16 of at least K", p.codes_stride);
  }
  if (!p.x || !p.codes || !p.scale) return "x, codes or scale is null";
  if (norm && !p.weight) return "a norm needs its weight";
  if (p.source == ActivationSource::kSiluProduct && !p.up) return "the product needs up";
  if (!aligned(p.x) || !aligned(p.up) || !aligned(p.weight) || !aligned(p.bias) || !aligned(p.codes)) {
    return "x, up, weight, bias or codes is not 16-byte aligned";
  }
  return {};
}

void quantize_activations(const ActivationProblem& problem, cudaStream_t stream, bool overlap_previous) {
  if (const std::string obstacle = activation_obstacle(problem); !obstacle.empty()) {
    throw Error("quantization of activations: {}", obstacle);
  }
  launch_activation(problem, stream, overlap_previous);
}

}  // namespace tessera::cuda
