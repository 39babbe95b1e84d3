// Quantizing one model in several ways, side by side in one folder: what compare and demo let the quantizer
// program do first.
#pragma once

#include <string>
#include <vector>

#include "tessera/program/calibration_request.h"
#include "tessera/program/program.h"

namespace tessera {

/// Quantizes `model` with each of `methods` ("NAME-gG", "NAME+SETTING", "all") into FOLDER/METHOD and returns
/// those folders. A folder that already holds the same result is kept, one that holds another is replaced, an
/// interrupted run resumes.
std::vector<std::string> quantize_each(const std::string& model, const std::vector<std::string>& methods,
                                       const CalibrationRequest& calibration, const std::string& folder,
                                       const GlobalOptions& global);

}  // namespace tessera
