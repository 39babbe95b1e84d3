// report.json: what a run did, where and how long.
#pragma once

#include <nlohmann/json.hpp>

#include "tessera/quant/run/journal.h"
#include "tessera/quant/run/memory_plan.h"
#include "tessera/quant/run/quantizer.h"

namespace tessera {

/// The report of a run of this journal, without what it was calibrated with and the list of its files.
nlohmann::json run_report(const QuantizeOptions& options, const MemoryPlan& memory,
                          const Fingerprint& fingerprint, const Journal& journal);

}  // namespace tessera
