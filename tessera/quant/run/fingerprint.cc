// Fingerprints of runs.
#include "tessera/quant/run/fingerprint.h"

#include "tessera/base/atomic_output.h"
#include "tessera/base/hash.h"
#include "tessera/quant/run/owned_files.h"
#include "tessera/quant/run/run_checks.h"

namespace tessera {
namespace {

using nlohmann::json;

/// What the calibration windows are: their ids, or what a sampler makes them from.
std::string identity_of(const CalibrationSet& calibration) {
  if (calibration.sampler) return sha256_hex(calibration.manifest.dump());
  Sha256 hash;
  for (const auto& window : calibration.windows) {
    hash.update(fmt::format("{} ", window.size()));
    hash.update(std::as_bytes(std::span(window)));
  }
  return hash.hex();
}

}  // namespace

Fingerprint fingerprint_of(const QuantizeOptions& options, const Checkpoint& checkpoint) {
  return {{"recipe", options.recipe.to_json().dump()},
          {"calibration", identity_of(options.calibration)},
          {"model", hash_model(checkpoint)},
          {"program version", TESSERA_VERSION},
          {"device", parse_device(options.device).is_cpu() ? "cpu" : "cuda"}};
}

bool holds_result(const std::filesystem::path& out, const Fingerprint& fingerprint) {
  const std::filesystem::path report = out / kReportName;
  if (!std::filesystem::exists(report)) return false;
  const json found = json::parse(read_file(report), nullptr, /*allow_exceptions=*/false);
  return found.is_object() && found.value("fingerprint", json()) == fingerprint;
}

}  // namespace tessera
