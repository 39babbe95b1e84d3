// Rounding lm_head, some outputs at a time: as floats it can be larger than all that a run holds otherwise.
#include "tessera/quant/run/lm_head.h"

#include <algorithm>

#include "tessera/format/joined_linear.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/grid/weight_grid.h"

namespace tessera {
namespace {

constexpr int64_t kPieceOutputs = 4096;

QuantizedLinear rounded(const at::Tensor& weight, const at::Tensor& bias) {
  const WeightGrid grid = fit_grid(weight, kLmHeadScheme.weight, {.search = false, .scale_bits = 0});
  return make_quantized_linear(grid, round_to_grid(grid, weight), kLmHeadScheme.activation, bias);
}

}  // namespace

void round_lm_head(const ModelSpec& spec, Shard& outer) {
  const TensorView& weight = outer.at(spec.lm_head);
  at::Tensor bias;
  if (outer.contains(spec.lm_head_bias())) bias = to_float_tensor(outer.at(spec.lm_head_bias()), at::kCPU);
  std::vector<QuantizedLinear> pieces;
  for (int64_t first = 0; first < spec.vocab_size; first += kPieceOutputs) {
    const int64_t count = std::min(kPieceOutputs, spec.vocab_size - first);
    const TensorView rows{
        weight.dtype,
        {count, spec.hidden_size},
        weight.data + first * spec.hidden_size * static_cast<int64_t>(size_of(weight.dtype))};
    pieces.push_back(
        rounded(to_float_tensor(rows, at::kCPU), bias.defined() ? bias.narrow(0, first, count) : bias));
  }
  std::vector<const QuantizedLinear*> parts;
  for (const QuantizedLinear& piece : pieces) parts.push_back(&piece);
  outer.remove(spec.lm_head_bias());
  if (!spec.tied_embeddings) outer.remove(spec.lm_head);
  outer.add(join_outputs(parts), kLmHead);
}

uint64_t lm_head_disk_bytes(const ModelSpec& spec) {
  return static_cast<uint64_t>(spec.vocab_size) *
         (static_cast<uint64_t>(spec.hidden_size) + 2 * sizeof(float));
}

size_t lm_head_bytes(const ModelSpec& spec) {
  return 2 * lm_head_disk_bytes(spec) +
         static_cast<size_t>(3 * kPieceOutputs * spec.hidden_size) * sizeof(float);
}

}  // namespace tessera
