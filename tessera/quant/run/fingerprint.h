// What the result of a run depends on.
#pragma once

#include "tessera/quant/run/journal.h"
#include "tessera/quant/run/quantizer.h"

namespace tessera {

/// Of recipe, calibration text, model, program and kind of device. `checkpoint` is that of options.model_dir.
Fingerprint fingerprint_of(const QuantizeOptions& options, const Checkpoint& checkpoint);

/// Whether the folder `out` holds the result of a run with this fingerprint.
bool holds_result(const std::filesystem::path& out, const Fingerprint& fingerprint);

}  // namespace tessera
