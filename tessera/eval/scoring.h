// Windows as requests to the engine.
#pragma once

#include "tessera/engine/batch_engine.h"
#include "tessera/eval/windows.h"

namespace tessera {

/// For an engine that scores windows, up to step_tokens ids a step. Engines with the same options run the
/// same windows in the same steps.
EngineOptions scoring_options(const Windows& windows, int64_t step_tokens);

/// Window i, whose logits are wanted where they predict something.
Request scoring_request(const Windows& windows, int64_t i);

}  // namespace tessera
