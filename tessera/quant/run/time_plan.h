// How much time a run will need, known before its first block.
#pragma once

#include <string>

#include "tessera/quant/run/plan.h"

namespace tessera {

/// Seconds that a forward pass of the float model's first block takes a token, measured on one of the
/// calibration windows.
double seconds_a_token(const RunPlan& plan, const QuantizationConfig* source,
                       const std::vector<int32_t>& window, const at::Device& device);

/// Token passes of `blocks` blocks: those of the passes, and of both streams, which move on.
double token_passes(const RunPlan& plan, int64_t blocks, int64_t windows, int64_t tokens);

/// "expected time 25 min", with a word about GPUs where one would spare hours.
std::string time_note(double seconds, const at::Device& device);

}  // namespace tessera
