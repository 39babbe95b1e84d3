// Checks of quantize_activations.
#include "tessera/kernels/cuda/activation.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "tessera/base/error.h"

namespace tessera::cuda {

/// Defined in activation.cu.
void launch_activation(const ActivationProblem& problem, cudaStream_t stream, bool overlap_previous);

namespace {

constexpr int64_t kMaxInputs = 32768, kMaxTokens = (int64_t{1} << 31) - 1;

bool aligned(std::initializer_list<const void*> pointers) {
  return std::all_of(pointers.begin(), pointers.end(),
                     [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; });
}

std::string shape_obstacle(const ActivationProblem& p) {
  if (p.m < 1 || p.m > kMaxTokens) return fmt::format("M is {}, not in 1 .. 2^31 - 1", p.m);
  if (p.k < 16 || p.k % 16 != 0 || p.k > kMaxInputs) {
    return fmt::format("K is {}, not a multiple of 16 in 16 .. {}", p.k, kMaxInputs);
  }
  if (p.width() < 8 || p.width() % 8 != 0 || p.width() > kMaxInputs) {
    return fmt::format("inputs is {}, not a multiple of 8 in 8 .. {}", p.width(), kMaxInputs);
  }
  if (p.width() != p.k && !p.map.index) return "a row of other width than K needs a map";
  if (!p.halves && (p.bits < 2 || p.bits > 8)) return fmt::format("bits is {}, not in 2 .. 8", p.bits);
  if (p.stride < p.width() || p.stride % 8 != 0)
    return fmt::format("stride {} is no multiple of 8 of at least the row's width", p.stride);
  if (p.halves) {
    return p.halves_stride < p.k || p.halves_stride % 8 != 0
               ? "halves_stride is no multiple of 8 of at least K"
               : "";
  }
  if (p.codes_stride < p.k || p.codes_stride % 16 != 0)
    return fmt::format("codes_stride {} is no multiple of 16 of at least K", p.codes_stride);
  return {};
}

std::string pointer_obstacle(const ActivationProblem& p) {
  const bool norm = p.source == ActivationSource::kRmsNorm || p.source == ActivationSource::kLayerNorm;
  if (!p.x || (!p.halves && (!p.codes || !p.scale))) return "x, codes or scale is null";
  if (p.halves && (p.map.index || p.outliers.count > 0)) return "half rows have no map and no outliers";
  if ((p.added.delta || p.rows) && (!norm || p.type != OutputType::kFloat))
    return "rows are added and picked before norms of float rows alone";
  if (p.added.delta && (p.added.stride < p.width() || p.added.stride % 8 != 0))
    return "the stride of added rows is no multiple of 8 of at least the row's width";
  if (p.static_scale > 0 && !p.symmetric) return "a static scale is that of symmetric codes";
  if (norm && !p.weight) return "a norm needs its weight";
  if (norm && p.norm_type != OutputType::kFloat && p.norm_type != p.type)
    return "norm_type is neither float nor that of x";
  if (p.source == ActivationSource::kSiluProduct && !p.up) return "the product needs up";
  if (p.source == ActivationSource::kAttention &&
      (p.type != OutputType::kHalf || !p.spans.out || !p.spans.ends || !p.spans.rows ||
       p.spans.head_dim % 8 != 0 || int64_t{p.spans.heads} * p.spans.head_dim != p.width()))
    return "attention leaves half rows, and spans of heads as wide as they are";
  if (!p.symmetric && !p.zero && !p.map.repeat) return "asymmetric codes need zero";
  if ((p.map.gain || p.map.offset) && !p.map.index) return "a map needs its index";
  if (!aligned({p.x, p.up, p.added.delta, p.added.sum, p.weight, p.bias, p.codes, p.halves, p.map.index,
                p.map.gain, p.map.offset, p.map.repeat})) {
    return "x, up, weight, bias, codes or the map is not 16-byte aligned";
  }
  return {};
}

std::string outlier_obstacle(const OutlierGather& outliers) {
  if (outliers.count == 0) return {};
  if (outliers.count < 0 || outliers.count > kMaxInputs || !outliers.index || !outliers.values)
    return "outliers need 1 .. 32768 indices and room for their values";
  if (outliers.stride < outliers.count || outliers.stride % 8 != 0 || !aligned({outliers.values})) {
    return "outlier values are not 16-byte aligned, or their stride is no multiple of 8 of at least their "
           "count";
  }
  return {};
}

}  // namespace

std::string activation_obstacle(const ActivationProblem& p) {
  if (p.type == OutputType::kAccumulator) return "type is int32: activations are float, half or bfloat16";
  for (const std::string& obstacle : {shape_obstacle(p), pointer_obstacle(p), outlier_obstacle(p.outliers)}) {
    if (!obstacle.empty()) return obstacle;
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
