// The memory model of a run. The terms follow the code that allocates.
#include "tessera/quant/run/memory_plan.h"

#include <algorithm>

#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/base/heap.h"
#include "tessera/quant/run/lm_head.h"
#include "tessera/quant/run/shards.h"

namespace tessera {
namespace {

constexpr size_t kFloat = sizeof(float);

/// What libtorch and its BLAS take for themselves when they are first used (measured: libtorch 1.13 with
/// OpenBLAS on x86-64).
constexpr size_t kLibraryWarmUp = size_t{20} << 20;
/// Holes that the blocks of a step leave in the heap (measured: 17 to 63 MB; the plan is to be an upper
/// bound).
constexpr size_t kHeapHoles = 9 * kLargestHeapBlock;

/// Embedding and lm_head: pages of the mapped file while they are copied, or float32 copies while a pass
/// changes them. Each has a second copy while it changes; then both have one in the checkpoint's type, which
/// is checked and written.
size_t outer_bytes(const ModelSpec& spec, const Checkpoint& checkpoint, bool changed) {
  const TensorInfo& embedding = checkpoint.info(spec.embedding);
  if (!changed) return embedding.bytes() + checkpoint.info(spec.lm_head).bytes();
  const size_t all = static_cast<size_t>(outer_elements(checkpoint, spec)),
               one = static_cast<size_t>(spec.vocab_size * spec.hidden_size);
  return all * kFloat + std::max(one * kFloat, (all + one) * size_of(embedding.dtype)) + embedding.bytes();
}

}  // namespace

std::string MemoryPlan::to_string() const {
  const auto mb = [](size_t bytes) { return (bytes + 500000) / 1000000; };
  return fmt::format(
      "predicted peak memory {} MB ({} program, {} weights of a block, {} calibration activations, {} "
      "workspace)",
      mb(peak()), mb(baseline), mb(weights), mb(activations), mb(workspace));
}

MemoryPlan plan_memory(const ModelSpec& spec, const Checkpoint& checkpoint,
                       const std::vector<std::unique_ptr<Pass>>& passes, int64_t windows, int64_t tokens,
                       bool rounds_lm_head) {
  tokens = std::max<int64_t>(tokens, 1);  // without windows there are none
  const int64_t parameters = spec.block_parameters();
  MemoryPlan plan;
  plan.earlier_peak = peak_memory();
  release_free_memory();
  plan.baseline = resident_memory() + kLibraryWarmUp;
  int64_t blocks = 1, streams = 2;
  for (const auto& pass : passes) {
    blocks = std::max(blocks, std::min(pass->group_blocks(), spec.n_layers));
    if (!pass->keeps_function()) streams = 3;  // the float model's output is taken before the pass runs
  }
  plan.weights = static_cast<size_t>(parameters) * (static_cast<size_t>(blocks) * kFloat + 1);
  plan.activations = static_cast<size_t>(streams * windows * tokens * spec.hidden_size) * kFloat;

  // Behind the passes the block's codes are simulated by a float copy.
  size_t block = static_cast<size_t>(parameters) * kFloat + chunk_forward_bytes(spec, windows, tokens);
  bool changes_outer = false;
  for (const auto& pass : passes) {
    block = std::max(block, pass->workspace_bytes(spec, windows, tokens));
    changes_outer = changes_outer || pass->unties_embedding();
  }
  const size_t outer = outer_bytes(spec, checkpoint, changes_outer);
  if (rounds_lm_head) block = std::max(block, outer + lm_head_bytes(spec));  // behind the last block
  size_t model = 0;
  for (const auto& pass : passes) model = std::max(model, pass->model_bytes(spec, windows, tokens));
  // The streams start while the outer tensors are there; no block is, yet.
  const size_t without_block = std::max(outer, model);
  plan.workspace = kHeapHoles + std::max(block, without_block - std::min(without_block, plan.weights));
  return plan;
}

}  // namespace tessera
