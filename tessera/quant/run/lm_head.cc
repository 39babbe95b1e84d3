// Balancing and rounding, some outputs at a time.
#include "tessera/quant/run/lm_head.h"

#include <algorithm>

#include "tessera/format/joined_linear.h"
#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/grid/weight_grid.h"

namespace tessera {
namespace {

constexpr int64_t kPieceOutputs = 4096;
constexpr int64_t kJudgedPieces = 8;
constexpr int64_t kJudgedTokens = 256;

int64_t piece_count(int64_t outputs) {
  return (outputs + kPieceOutputs - 1) / kPieceOutputs;
}

/// Outputs `piece` * kPieceOutputs and on, in floats.
at::Tensor piece_of(const TensorView& weight, int64_t piece) {
  const int64_t first = piece * kPieceOutputs, k = weight.shape[1],
                count = std::min(kPieceOutputs, weight.shape[0] - first);
  return to_float_tensor({weight.dtype,
                          {count, k},
                          weight.data + first * k * static_cast<int64_t>(size_of(weight.dtype)),
                          weight.owner},
                         at::kCPU);
}

QuantizedLinear rounded(const at::Tensor& weight, const at::Tensor& bias) {
  const WeightGrid grid = fit_grid(weight, kLmHeadScheme.weight, {.search = false, .scale_bits = 0});
  return make_quantized_linear(grid, round_to_grid(grid, weight), kLmHeadScheme.activation, bias);
}

/// ||rounded - float|| / ||float|| of some pieces' outputs.
double output_error(const TensorView& weight, const at::Tensor& inputs, const at::Tensor& scales) {
  const int64_t pieces = piece_count(weight.shape[0]), step = (pieces + kJudgedPieces - 1) / kJudgedPieces;
  double error = 0, energy = 0;
  for (int64_t i = 0; i < pieces; i += step) {
    const at::Tensor w = piece_of(weight, i), y = at::matmul(inputs, w.t());
    const FakeQuantLinear codes(rounded(w * scales, {}), at::kCPU);
    error += (codes.forward(inputs / scales) - y).square().sum().item<double>();
    energy += y.square().sum().item<double>();
  }
  return energy > 0 ? std::sqrt(error / energy) : 0;
}

}  // namespace

at::Tensor balance_lm_head(const TensorView& weight, const at::Tensor& inputs, nlohmann::json& report) {
  const at::Tensor x = inputs.cpu(), ones = at::ones({x.size(1)});
  if (x.size(0) < 2) return ones;
  at::Tensor squares = at::zeros({x.size(1)});
  for (int64_t i = 0; i < piece_count(weight.shape[0]); ++i) squares += piece_of(weight, i).square().sum(0);
  const auto relative = [](const at::Tensor& energy) {  // dead channels stay finite
    return (energy / energy.max()).nan_to_num().clamp_min(1e-8);
  };
  // The fourth root of a quotient of energies.
  const at::Tensor seen = x.narrow(0, 0, x.size(0) / 2);
  const at::Tensor scales = (relative(seen.square().sum(0)) / relative(squares)).sqrt().sqrt();
  const int64_t unseen = x.size(0) - x.size(0) / 2, step = (unseen + kJudgedTokens - 1) / kJudgedTokens;
  const at::Tensor judged = x.slice(0, x.size(0) / 2, x.size(0), step);
  const double plain = output_error(weight, judged, ones), balanced = output_error(weight, judged, scales);
  report = {{"error_plain", plain}, {"error_balanced", balanced}};
  return balanced < plain ? scales : ones;
}

QuantizedLinear round_lm_head(const TensorView& weight, const at::Tensor& bias, const at::Tensor& scales) {
  std::vector<QuantizedLinear> pieces;
  for (int64_t i = 0; i < piece_count(weight.shape[0]); ++i) {
    const at::Tensor w = piece_of(weight, i);
    pieces.push_back(
        rounded(w * scales, bias.defined() ? bias.narrow(0, i * kPieceOutputs, w.size(0)) : bias));
  }
  std::vector<const QuantizedLinear*> parts;
  for (const QuantizedLinear& piece : pieces) parts.push_back(&piece);
  return join_outputs(parts);
}

uint64_t lm_head_disk_bytes(const ModelSpec& spec) {
  return static_cast<uint64_t>(spec.vocab_size) *
         (static_cast<uint64_t>(spec.hidden_size) + 2 * sizeof(float));
}

size_t lm_head_bytes(const ModelSpec& spec) {
  return 2 * lm_head_disk_bytes(spec) +
         static_cast<size_t>(4 * kPieceOutputs * spec.hidden_size) * sizeof(float);
}

}  // namespace tessera
