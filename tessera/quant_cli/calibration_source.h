// Where calibration windows come from. Shared by quantize and each.
#pragma once

#include <string>

#include "tessera/program/calibration_request.h"
#include "tessera/quant/run/calibration.h"

namespace tessera {

/// The calibration windows for the model in `dir`: those of the text, or a sampler that draws them from the
/// model once and keeps them. Throws Error when the text is too short or windows exceed the context.
CalibrationSet make_calibration(const std::string& dir, const CalibrationRequest& request);

}  // namespace tessera
