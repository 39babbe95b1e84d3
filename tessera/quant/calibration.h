// Calibration windows: token ids with a manifest of where they came from.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace tessera {

struct CalibrationSet {
  std::vector<std::vector<int32_t>> windows;  ///< equally long
  /// Source, seed, offsets, hash: goes into the report.
  nlohmann::json manifest = nlohmann::json::object();

  int64_t window_tokens() const { return windows.empty() ? 0 : static_cast<int64_t>(windows[0].size()); }
};

/// n_windows windows of `tokens` ids at uniformly random offsets of `ids` (std::mt19937_64, seed). Throws
/// Error when the text has fewer than `tokens` + 1 ids, naming `source` and the least that would do.
CalibrationSet sample_windows(std::span<const int32_t> ids, int64_t n_windows, int64_t tokens, uint64_t seed,
                              const std::string& source);

}  // namespace tessera
