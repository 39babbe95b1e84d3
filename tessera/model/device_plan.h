// What a model takes of the memory of its device, known from config.json and the headers of its weights.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "tessera/arch/model_spec.h"
#include "tessera/format/quantization_config.h"
#include "tessera/kernels/backend.h"

namespace tessera {

/// Bytes, on a device that keeps floats as halves.
struct DevicePlan {
  uint64_t linears = 0;    ///< of the blocks
  uint64_t outer = 0;      ///< embedding and lm_head
  uint64_t workspace = 0;  ///< rows and logits of the largest step

  uint64_t total() const { return linears + outer + workspace; }
  /// "7.4 GB: layers 6.5 GB, embedding and lm_head 0.5 GB, workspace 0.4 GB"
  std::string to_string() const;
};

/// Rows of logits that exist at once.
int64_t logit_rows(const ModelSpec& spec, const StepLimits& limits);

DevicePlan plan_device(const ModelSpec& spec, const Checkpoint& checkpoint,
                       const std::optional<QuantizationConfig>& quantization, const StepLimits& limits);
/// Of the model in a folder or GGUF file. Throws what Model::load would throw of its config.json and headers.
DevicePlan plan_device(const std::filesystem::path& model, const StepLimits& limits);

/// Throws Error naming `model` when the device has not enough memory free.
void check_fits(const DevicePlan& plan, const DeviceMemory& memory, const std::string& model);

}  // namespace tessera
