// The report of a run.
#include "tessera/quant/run/run_report.h"

#include <torch/version.h>

#include "tessera/base/cpu_info.h"
#include "tessera/base/parallel.h"

namespace tessera {

nlohmann::json run_report(const QuantizeOptions& options, const MemoryPlan& memory,
                          const Fingerprint& fingerprint, const Journal& journal) {
  double seconds = 0;
  for (const nlohmann::json& block : journal.blocks()) seconds += block["seconds"].get<double>();
  for (const nlohmann::json& pass : journal.whole_model()) seconds += pass["seconds"].get<double>();
  return {{"program", "tessera " TESSERA_VERSION},
          {"model", options.model_dir.string()},
          {"recipe", options.recipe.to_json()},
          {"device", options.device},
          {"libtorch", TORCH_VERSION},
          {"cpu", cpu_info().model},
          {"threads", thread_count()},
          {"fingerprint", fingerprint},
          {"seconds", seconds},
          {"predicted_peak_bytes", memory.peak()},
          {"peak_bytes", peak_memory()},
          {"blocks", journal.blocks()},
          {"whole_model", journal.whole_model()}};
}

}  // namespace tessera
