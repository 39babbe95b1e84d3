// Calibration windows: token ids with a manifest of where they came from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/hash.h"
#include "tessera/base/reporter.h"

namespace tessera {

using TokenWindows = std::vector<std::vector<int32_t>>;

/// Windows that take long to make, so that a run does so only when it needs them and all its checks have
/// passed.
struct CalibrationSampler {
  int64_t windows = 0, tokens = 0;  ///< how many, and ids in each
  std::function<TokenWindows(Reporter&)> sample;
};

struct CalibrationSet {
  TokenWindows windows;  ///< equally long
  /// Source, seed, offsets, hash: goes into the report. Of a sampler: all that the windows depend on beside
  /// the model.
  nlohmann::json manifest = nlohmann::json::object();
  std::optional<CalibrationSampler> sampler = {};  ///< in place of windows

  int64_t window_count() const { return sampler ? sampler->windows : static_cast<int64_t>(windows.size()); }
  int64_t window_tokens() const {
    if (sampler) return sampler->tokens;
    return windows.empty() ? 0 : static_cast<int64_t>(windows[0].size());
  }
};

/// Writes windows of equal length, and reads them back. Throw Error.
FileDigest save_windows(const std::filesystem::path& file, const TokenWindows& windows);
TokenWindows load_windows(const std::filesystem::path& file);

/// n_windows windows of `tokens` ids at uniformly random offsets of `ids` (std::mt19937_64, seed). Throws
/// Error when the text has fewer than `tokens` + 1 ids, naming `source` and the least that would do.
CalibrationSet sample_windows(std::span<const int32_t> ids, int64_t n_windows, int64_t tokens, uint64_t seed,
                              const std::string& source);

}  // namespace tessera
