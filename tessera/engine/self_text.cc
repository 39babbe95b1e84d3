// Sampling windows of text, all through one engine.
#include "tessera/engine/self_text.h"

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/base/stopwatch.h"
#include "tessera/engine/batch_engine.h"

namespace tessera {
namespace {

constexpr int64_t kCacheBytes = int64_t{1} << 29;  // of keys and values of the windows that run at once
constexpr int64_t kMostAtOnce = 128;
constexpr int64_t kTimedSteps = 4;

void check(const Model& model, const SelfTextOptions& options) {
  if (options.windows < 1 || options.window < 2) {
    throw Error("{} windows of {} ids cannot be sampled; ask for at least one of two", options.windows,
                options.window);
  }
  if (options.window > model.spec().max_positions) {
    throw Error("{}: windows of {} ids are not possible, the model has {} positions", model.dir().string(),
                options.window, model.spec().max_positions);
  }
}

int64_t windows_at_once(const Model& model, const SelfTextOptions& options) {
  const int64_t window_bytes = pages_for(options.window) * model.kv_shape().page_bytes();
  return std::min(options.windows, std::clamp<int64_t>(kCacheBytes / window_bytes, 1, kMostAtOnce));
}

}  // namespace

double sampling_seconds(Model& model, int32_t bos, const SelfTextOptions& options) {
  check(model, options);
  const int64_t at_once = windows_at_once(model, options), steps = std::min(kTimedSteps, options.window - 1);
  Reporter silent;
  const Stopwatch watch;
  sample_text(model, bos, {.windows = at_once, .window = steps + 1}, silent);
  const int64_t rounds = (options.windows + at_once - 1) / at_once;
  return watch.seconds() / static_cast<double>(steps) * static_cast<double>(rounds * (options.window - 1));
}

std::vector<int32_t> sample_text(Model& model, int32_t bos, const SelfTextOptions& options,
                                 Reporter& reporter) {
  check(model, options);
  const int64_t at_once = windows_at_once(model, options);
  BatchEngine engine(model, {.max_sequences = at_once,
                             .pages = pages_for_sequences(at_once, options.window),
                             .prefix_cache = false});
  std::vector<std::vector<int32_t>> windows(static_cast<size_t>(options.windows), {bos});
  int64_t drawn = 0;
  const int64_t total = options.windows * (options.window - 1);
  for (size_t i = 0; i < windows.size(); ++i) {
    // The windows of one seed draw from streams that no neighbouring seed uses.
    const uint64_t seed = options.seed * 0x9e3779b97f4a7c15u + i;
    engine.submit({.prompt = {bos},
                   .sampling = {.temperature = 1, .seed = seed},
                   .max_tokens = options.window - 1,
                   .on_token = [&, i](int32_t id) {
                     windows[i].push_back(id);
                     ++drawn;
                   }});
  }
  while (engine.step()) reporter.progress("sampling text, tokens", drawn, total);
  if (drawn < total) {
    throw Error("{}: the model's logits are not finite; its weights are damaged or overflow",
                model.dir().string());
  }
  std::vector<int32_t> text;
  for (const auto& window : windows) text.insert(text.end(), window.begin(), window.end());
  return text;
}

}  // namespace tessera
