// Windows as requests to the engine.
#include "tessera/eval/scoring.h"

#include <algorithm>

namespace tessera {

EngineOptions scoring_options(const Windows& windows, int64_t step_tokens) {
  // As many windows as fill a step, and one more that begins when one of them ends.
  const int64_t at_once = std::min(windows.count(), step_tokens / windows.length + 2);
  return {.step_tokens = step_tokens,
          .max_sequences = at_once,
          .pages = pages_for_sequences(at_once, windows.length),
          .prefix_cache = false};
}

Request scoring_request(const Windows& windows, int64_t i) {
  const std::span<const int32_t> ids = windows[i].first(static_cast<size_t>(windows.length - 1));
  return {.prompt = {ids.begin(), ids.end()}, .max_tokens = 0, .score_from = windows.first_predicted - 1};
}

}  // namespace tessera
