// Sizes from headers.
#include "tessera/model/device_plan.h"

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/format/load_linear.h"

namespace tessera {
namespace {

constexpr uint64_t kHalf = 2, kFloat = 4;

double gigabytes(uint64_t bytes) {
  return static_cast<double>(bytes) * 1e-9;
}

/// Bytes of all tensors named PREFIX.*.
uint64_t stored_bytes(const Checkpoint& checkpoint, const std::string& prefix) {
  uint64_t bytes = 0;
  const auto& tensors = checkpoint.tensors();
  for (auto it = tensors.lower_bound(prefix + ".");
       it != tensors.end() && it->first.starts_with(prefix + "."); ++it) {
    bytes += it->second.bytes();
  }
  return bytes;
}

/// A weight-only layer of ours that CUDA expands to half.
bool is_expanded(const Checkpoint& checkpoint, const std::string& name) {
  return checkpoint.contains(name + ".input_index") || checkpoint.contains(name + ".outlier_index") ||
         checkpoint.info(name + ".qweight").dtype == DType::kI8;
}

}  // namespace

int64_t logit_rows(const ModelSpec& spec, const StepLimits& limits) {
  constexpr int64_t kLeast = 32;
  return std::clamp<int64_t>(limits.logit_elements / spec.vocab_size, kLeast, limits.rows);
}

DevicePlan plan_device(const std::filesystem::path& model, const StepLimits& limits) {
  const ModelConfig config = ModelConfig::load(model);
  const Checkpoint checkpoint(model);
  return plan_device(make_model_spec(config, checkpoint), checkpoint, read_quantization_config(config),
                     limits);
}

DevicePlan plan_device(const ModelSpec& spec, const Checkpoint& checkpoint,
                       const std::optional<QuantizationConfig>& quantization, const StepLimits& limits) {
  DevicePlan plan;
  for (int64_t layer = 0; layer < spec.n_layers; ++layer) {
    for (LinearId id : spec.linear_ids()) {
      const std::string name = spec.linear_name(layer, id);
      const auto parameters = static_cast<uint64_t>(spec.linears[id].n * spec.linears[id].k);
      const bool in_codes =
          quantization && is_quantized(checkpoint, name) &&
          !(quantization->activation_of(name).weight_only() && is_expanded(checkpoint, name));
      plan.linears += in_codes ? stored_bytes(checkpoint, name) : parameters * kHalf;
    }
  }
  const auto table = static_cast<uint64_t>(spec.vocab_size * spec.hidden_size) * kHalf;
  const std::string head = spec.lm_head_name();
  plan.outer = table;
  if (!spec.tied_embeddings)
    plan.outer += is_quantized(checkpoint, head) ? stored_bytes(checkpoint, head) : table;
  uint64_t widths = 2 * static_cast<uint64_t>(spec.q_size());  // attention's output, and codes
  for (const LinearSpec& linear : spec.linears) widths += static_cast<uint64_t>(linear.n);
  const uint64_t residual = static_cast<uint64_t>(spec.hidden_size) * (kFloat + kHalf);
  plan.workspace = static_cast<uint64_t>(limits.rows) * (widths * kHalf + residual) +
                   static_cast<uint64_t>(logit_rows(spec, limits) * spec.vocab_size) * kFloat;
  return plan;
}

std::string DevicePlan::to_string() const {
  return fmt::format("{:.2f} GB: layers {:.2f}, embedding and lm_head {:.2f}, workspace {:.2f}",
                     gigabytes(total()), gigabytes(linears), gigabytes(outer), gigabytes(workspace));
}

void check_fits(const DevicePlan& plan, const DeviceMemory& memory, const std::string& model) {
  if (plan.total() <= memory.free) return;
  throw Error(
      "{}: needs {}; the GPU has {:.2f} of {:.2f} GB free; use a model of fewer bits, another GPU, or "
      "--device "
      "cpu",
      model, plan.to_string(), gigabytes(memory.free), gigabytes(memory.total));
}

}  // namespace tessera
