// What can go wrong with a run, checked before hours are spent on it.
#pragma once

#include <filesystem>
#include <span>

#include "tessera/arch/model_spec.h"
#include "tessera/quant/run/calibration.h"
#include "tessera/quant/run/disk_plan.h"
#include "tessera/quant/run/memory_plan.h"

namespace tessera {

/// Throws Error when tensors are missing, have the wrong shape, or are quantized already by tessera. Codes of
/// another tool are dequantized.
void check_source_model(const ModelConfig& config, const ModelSpec& spec, const Checkpoint& checkpoint);

/// Throws Error when no pass quantizes, when more than one works on groups of blocks, when one changes the
/// final norm that another folds into lm_head, or when one cannot work on this model or behind the passes in
/// front.
void check_passes(const std::string& recipe, const ModelSpec& spec, const PerLinear<LinearScheme>& schemes,
                  std::span<const std::unique_ptr<Pass>> passes);

/// Throws Error when there are fewer windows than the passes need, when they are longer than the model's
/// context or differ in length, or when a token is outside the vocabulary.
void check_calibration(const ModelSpec& spec, std::span<const std::unique_ptr<Pass>> passes,
                       const CalibrationSet& calibration);

/// A warning when the windows leave part of the model unseen: learned positions that they do not reach. Empty
/// otherwise.
std::string calibration_warning(const ModelSpec& spec, int64_t window_tokens);

/// Throws Error when the run needs more memory than the machine has available.
void check_memory(const MemoryPlan& plan);

/// Throws Error when `folder`, which need not be there, and what is free on its disk are less than the run
/// needs.
void check_disk(const DiskPlan& plan, const std::filesystem::path& folder);

/// Accepts "cpu", "cuda", "cuda:N"; throws Error for others and for absent devices.
at::Device parse_device(const std::string& name);

}  // namespace tessera
