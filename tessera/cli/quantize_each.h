// Quantizing one model in several ways, side by side in one folder: what compare and demo let the quantizer
// program do first.
#pragma once

#include <string>
#include <vector>

#include "tessera/program/calibration_request.h"
#include "tessera/program/program.h"

namespace tessera {

/// What became of a method.
struct MadeModel {
  std::string method;   ///< as it is asked for, with the group size
  std::string skipped;  ///< why it cannot run on this model; empty: it has
  std::string folder;
};

/// Quantizes `model` with each of `methods` ("NAME-gG", "NAME+SETTING", "all") into FOLDER/METHOD. A folder
/// that already holds the same result is kept, one that holds another is replaced, an interrupted run
/// resumes. `group_size` > 0 is that of the methods that have groups and do not say their size. Throws Error
/// when none can run.
std::vector<MadeModel> quantize_each(const std::string& model, const std::vector<std::string>& methods,
                                     int64_t group_size, const CalibrationRequest& calibration,
                                     const std::string& folder, const GlobalOptions& global);

}  // namespace tessera
