// The memory model of a run. The terms follow the code that allocates; the test compares them with a real
// run.
#include "tessera/quant/memory_plan.h"

#include <algorithm>

#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/quant/streams.h"

namespace tessera {
namespace {

constexpr size_t kFloat = sizeof(float);

/// What libtorch, its BLAS and its threads take for themselves when they are first used, measured on x86-64.
constexpr size_t kLibraryWarmUp = size_t{100} << 20;

size_t block_parameters(const ModelSpec& spec) {
  int64_t count = 0;
  for (LinearId id : spec.existing_linears()) count += spec.linears[id].n * spec.linears[id].k;
  return static_cast<size_t>(count);
}

/// Embedding and lm_head: copied from the mapped file, or in float32 while a pass changes them.
size_t outer_bytes(const ModelSpec& spec, const Checkpoint& checkpoint, bool unties) {
  const size_t mapped = checkpoint.at(spec.embedding).bytes() + checkpoint.at(spec.lm_head).bytes();
  const auto elements = static_cast<size_t>(2 * spec.vocab_size * spec.hidden_size);
  return unties ? 3 * elements * kFloat : mapped;
}

}  // namespace

std::string MemoryPlan::to_string() const {
  const auto mb = [](size_t bytes) { return (bytes + 500000) / 1000000; };
  return fmt::format(
      "predicted peak memory {} MB: {} before the run, {} weights, {} activations, {} workspace", mb(peak()),
      mb(baseline), mb(weights), mb(activations), mb(workspace));
}

MemoryPlan plan_memory(const ModelSpec& spec, const Checkpoint& checkpoint,
                       const std::vector<std::unique_ptr<Pass>>& passes, int64_t windows, int64_t tokens) {
  const size_t parameters = block_parameters(spec);
  // Fake quantization of a block.
  size_t workspace = parameters * kFloat + forward_bytes(spec, windows_per_chunk(tokens), tokens);
  bool unties = false;
  for (const auto& pass : passes) {
    workspace = std::max(workspace, pass->workspace_bytes(spec, windows, tokens));
    unties = unties || pass->unties_embedding();
  }
  MemoryPlan plan;
  plan.baseline = resident_memory() + kLibraryWarmUp;
  plan.weights = parameters * (kFloat + 1);  // the float block and its codes
  plan.activations = static_cast<size_t>(2 * windows * tokens * spec.hidden_size) * kFloat;
  plan.workspace = std::max(workspace, outer_bytes(spec, checkpoint, unties));
  return plan;
}

}  // namespace tessera
