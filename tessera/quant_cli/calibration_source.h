// Where calibration windows come from. Shared by quantize and each.
#pragma once

#include <string>

#include "tessera/base/reporter.h"
#include "tessera/program/calibration_request.h"
#include "tessera/quant/calibration.h"

namespace tessera {

/// Reads or samples the calibration windows for the model in `dir`. Throws Error when the text is too short.
CalibrationSet make_calibration(const std::string& dir, const CalibrationRequest& request,
                                Reporter& reporter);

}  // namespace tessera
