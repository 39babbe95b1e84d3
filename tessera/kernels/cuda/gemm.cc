// The integer GEMM's front door: what can run, and in which configuration.
#include "tessera/kernels/cuda/gemm.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>

#include "tessera/base/error.h"
#include "tessera/kernels/cuda/cheapest.h"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/cost_model.h"
#include "tessera/kernels/cuda/packed_weights.h"
#include "tessera/kernels/cuda/sm80/configs.h"
#include "tessera/kernels/cuda/sm80/gemm.h"
#include "tessera/kernels/cuda/sm90a/launchers.h"

namespace tessera::cuda {
namespace {

/// |acc| <= 127 * 128 * K, and 16 times that within the kernel for 4-bit codes of at most 8, must fit 32
/// bits.
constexpr int64_t kMaxInputs = 131072;
constexpr int64_t kMaxExtent = int64_t{1} << 30;

bool aligned(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

bool known_layout(WeightLayout layout) {
  if (layout.group_size == 0) return layout.bits == 4 || layout.bits == 8;
  return layout.bits == 4 && (layout.group_size == 32 || layout.group_size == 64 || layout.group_size == 128);
}

std::string weight_obstacle(const PackedWeights& w) {
  if (!known_layout(w.layout)) {
    return fmt::format(
        "no kernel for {}-bit weights in groups of {}: 8 or 4 bits, or 4 bits in groups of 32, 64 or 128",
        w.layout.bits, w.layout.group_size);
  }
  if (w.n < 1 || w.n > kMaxExtent) return fmt::format("N is {}, not in 1 .. 2^30", w.n);
  if (w.k < 16 || w.k % 16 != 0 || w.k > kMaxInputs) {
    return fmt::format("K is {}, not a multiple of 16 in 16 .. {}", w.k, kMaxInputs);
  }
  if (!w.blocks || !aligned(w.blocks, 128)) return "PackedWeights::blocks is null or not 128-byte aligned";
  if (!aligned(w.scale, 16) || !aligned(w.bias, 16) || !aligned(w.row_sum, 16)) {
    return "PackedWeights::scale, bias or row_sum is not 16-byte aligned";
  }
  return {};
}

std::string outlier_obstacle(const Outliers& outliers) {
  if (outliers.count == 0) return {};
  if (outliers.count < 0 || outliers.count % kOutlierColumns != 0 || outliers.count > kMaxInputs)
    return fmt::format("{} outliers, not a multiple of {}", outliers.count, kOutlierColumns);
  if (!outliers.weights || !outliers.x || !aligned(outliers.weights, 128) || !aligned(outliers.x, 16))
    return "Outliers::weights is null or not 128-byte aligned, or x is null or not 16-byte aligned";
  if (outliers.stride < outliers.count || outliers.stride % 8 != 0) {
    return fmt::format("Outliers::stride is {}, not a multiple of 8 of at least their count",
                       outliers.stride);
  }
  return {};
}

std::string operand_obstacle(const GemmProblem& p) {
  if (p.m < 1 || p.m > kMaxExtent) return fmt::format("M is {}, not in 1 .. 2^30", p.m);
  if (!p.codes || !aligned(p.codes, 16)) return "codes is null or not 16-byte aligned";
  if (p.codes_stride < p.weights.k || p.codes_stride % 16 != 0) {
    return fmt::format("codes_stride is {}, not a multiple of 16 of at least K = {}", p.codes_stride,
                       p.weights.k);
  }
  if (p.code_bits != 4 && p.code_bits != 8) return fmt::format("code_bits is {}, not 4 or 8", p.code_bits);
  if (!p.out || !aligned(p.out, 16) || !aligned(p.residual, 16))
    return "out or residual is null or not 16-byte aligned";
  if (p.out_stride < p.weights.n)
    return fmt::format("out_stride is {}, less than N = {}", p.out_stride, p.weights.n);
  if (p.output == OutputType::kAccumulator) return {};
  if (!p.weights.scale || !p.token_scale) return "scale or token_scale is null";
  if (p.token_zero && !p.weights.row_sum) return "activations with zero points need PackedWeights::row_sum";
  return outlier_obstacle(p.outliers);
}

int attribute(cudaDeviceAttr what, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, what, device), "cudaDeviceGetAttribute");
  return value;
}

/// The code of the kernels on wgmma runs on 9.0 alone.
bool runs_sm90a(int device) {
  return attribute(cudaDevAttrComputeCapabilityMajor, device) == 9 &&
         attribute(cudaDevAttrComputeCapabilityMinor, device) == 0;
}

/// `sm90a`: the device runs the kernels for 9.0.
bool exists(const GemmConfig& config, const GemmProblem& p, bool sm90a) {
  if (config.family == KernelFamily::kSm90a) {
    return sm90a && runs(config, p.weights.k) && (!p.adds_outliers() || runs_outliers(p, config));
  }
  return sm80::runs(config, p);
}

/// The best for a problem with outliers; empty where the kernels for 9.0 do not have what it needs.
std::optional<GemmConfig> choose_with_outliers(const GemmProblem& p) {
  const PackedWeights& w = p.weights;
  return cheapest(
      all_configs(),
      [&](const GemmConfig& config) {
        return runs_outliers(p, config) && has_inputs(config, w.k) && is_plausible(config, p.m, w.n);
      },
      [&](const GemmConfig& config) {
        return estimate_microseconds(w.layout, config, p.m, w.n, w.k, p.outliers.count);
      });
}

}  // namespace

std::string gemm_obstacle(const GemmProblem& problem, int device) {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  if (major < 8) return fmt::format("the device has compute capability {}.x; the kernels need 8.0", major);
  const std::string obstacle = weight_obstacle(problem.weights);
  return obstacle.empty() ? operand_obstacle(problem) : obstacle;
}

std::vector<GemmConfig> configs_for(const GemmProblem& problem, int device) {
  const bool sm90a = runs_sm90a(device);
  std::vector<GemmConfig> found;
  for (const auto& all : {std::span(all_configs()), sm80::all_configs()}) {
    std::copy_if(all.begin(), all.end(), std::back_inserter(found),
                 [&](const GemmConfig& config) { return exists(config, problem, sm90a); });
  }
  return found;
}

GemmConfig choose_config(const GemmProblem& p, int device) {
  if (runs_sm90a(device)) {
    if (!p.adds_outliers()) return choose_config(p.weights.layout, p.m, p.weights.n, p.weights.k);
    if (const auto best = choose_with_outliers(p)) return *best;
  }
  return sm80::choose_config(p, attribute(cudaDevAttrMultiProcessorCount, device),
                             attribute(cudaDevAttrComputeCapabilityMajor, device) == 8);
}

void gemm(const GemmProblem& problem, cudaStream_t stream, const LaunchOptions& options) {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  if (const std::string obstacle = gemm_obstacle(problem, device); !obstacle.empty()) {
    throw Error("integer GEMM: {}", obstacle);
  }
  const PackedWeights& w = problem.weights;
  const GemmConfig config = options.config ? *options.config : choose_config(problem, device);
  if (options.config && !exists(config, problem, runs_sm90a(device))) {
    throw Error("integer GEMM: no kernel for {} outputs x {} tokens a block, {} warps, K = {} split {} ways",
                config.outputs, config.tokens, config.warps, w.k, config.split);
  }
  if (config.family != KernelFamily::kSm90a) return sm80::launch(problem, config, stream);
  launch_sm90a(problem, config, options.overlap_previous, stream);
}

}  // namespace tessera::cuda
