// Sampling of calibration windows.
#include "tessera/quant/run/calibration.h"

#include <random>

#include "tessera/base/error.h"
#include "tessera/format/safetensors.h"

namespace tessera {
namespace {

constexpr const char* kTensorName = "ids";

/// Uniform in [0, n). The standard's distributions differ between libraries, its engine does not; the last,
/// incomplete run of n values of the engine is drawn again.
uint64_t uniform_below(std::mt19937_64& engine, uint64_t n) {
  const uint64_t incomplete = (UINT64_MAX % n + 1) % n;
  uint64_t draw = engine();
  while (draw > UINT64_MAX - incomplete) draw = engine();
  return draw % n;
}

}  // namespace

FileDigest save_windows(const std::filesystem::path& file, const TokenWindows& windows) {
  std::vector<int32_t> ids;
  for (const auto& window : windows) ids.insert(ids.end(), window.begin(), window.end());
  const auto count = static_cast<int64_t>(windows.size());
  const Tensor tensor =
      Tensor::from<int32_t>(ids, {count, count == 0 ? 0 : static_cast<int64_t>(ids.size()) / count});
  return write_safetensors(file, {{kTensorName, tensor.view()}});
}

TokenWindows load_windows(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto found = file.tensors().find(kTensorName);
  if (found == file.tensors().end() || found->second.shape.size() != 2) {
    throw Error("{}: no token ids [windows, tokens]", path.string());
  }
  const std::span<const int32_t> ids = found->second.as<int32_t>();
  const auto tokens = static_cast<size_t>(found->second.shape[1]);
  TokenWindows windows;
  for (size_t first = 0; first < ids.size(); first += tokens) {
    const auto window = ids.subspan(first, tokens);
    windows.emplace_back(window.begin(), window.end());
  }
  return windows;
}

CalibrationSet sample_windows(std::span<const int32_t> ids, int64_t n_windows, int64_t tokens, uint64_t seed,
                              const std::string& source) {
  if (n_windows < 1 || tokens < 1) {
    throw Error("{} calibration windows of {} tokens: both must be at least 1", n_windows, tokens);
  }
  const auto size = static_cast<int64_t>(ids.size());
  if (size < tokens + 1) {
    throw Error("{}: {} tokens are too few to calibrate on; windows of {} tokens need at least {}", source,
                size, tokens, tokens + 1);
  }
  CalibrationSet set;
  std::vector<int64_t> offsets;
  std::mt19937_64 engine(seed);
  for (int64_t i = 0; i < n_windows; ++i) {
    offsets.push_back(static_cast<int64_t>(uniform_below(engine, static_cast<uint64_t>(size - tokens))));
    const auto window = ids.subspan(static_cast<size_t>(offsets.back()), static_cast<size_t>(tokens));
    set.windows.emplace_back(window.begin(), window.end());
  }
  set.manifest = {{"source", source},
                  {"seed", seed},
                  {"windows", n_windows},
                  {"tokens", tokens},
                  {"offsets", offsets},
                  {"source_tokens", size},
                  {"source_sha256", sha256_hex(std::as_bytes(ids))}};
  return set;
}

}  // namespace tessera
