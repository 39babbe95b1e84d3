// Sampling windows of text, batch by batch.
#include "tessera/engine/self_text.h"

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/engine/sampler.h"

namespace tessera {
namespace {

constexpr int64_t kCacheBytes = int64_t{1} << 29;  // for all caches of a batch

int64_t batch_size(const ModelSpec& spec, int64_t window) {
  const int64_t cache =
      2 * spec.n_layers * spec.kv_size() * window * static_cast<int64_t>(size_of(DType::kF16));
  return std::clamp<int64_t>(kCacheBytes / cache, 1, Model::kMaxBatch);
}

/// Fills text [batch][window], whose first column is given.
class Batch {
 public:
  Batch(Model& model, std::span<int32_t> text, int64_t window, uint64_t seed)
      : model_(model), text_(text), window_(static_cast<size_t>(window)) {
    for (size_t i = 0; i < text.size() / window_; ++i) {
      caches_.push_back(model.make_cache(window));
      samplers_.emplace_back(SamplingOptions{.temperature = 1, .seed = seed + i});
    }
  }

  /// Draws column `position`.
  void step(size_t position) {
    const size_t batch = caches_.size(), vocab = static_cast<size_t>(model_.spec().vocab_size);
    std::vector<int32_t> ids;
    for (size_t i = 0; i < batch; ++i) ids.push_back(text_[i * window_ + position - 1]);
    const std::span<const float> logits = model_.decode(ids, caches_);
    for (size_t i = 0; i < batch; ++i) {
      text_[i * window_ + position] = samplers_[i].sample(logits.subspan(i * vocab, vocab));
    }
  }

 private:
  Model& model_;
  std::span<int32_t> text_;
  size_t window_;
  std::vector<KvCache> caches_;
  std::vector<Sampler> samplers_;
};

}  // namespace

std::vector<int32_t> sample_text(Model& model, int32_t bos, const SelfTextOptions& options,
                                 Reporter& reporter) {
  if (options.windows < 1 || options.window < 2) {
    throw Error("{} windows of {} ids cannot be sampled; ask for at least one of two", options.windows,
                options.window);
  }
  std::vector<int32_t> text(static_cast<size_t>(options.windows * options.window), bos);
  const int64_t batch = batch_size(model.spec(), options.window);
  for (int64_t first = 0; first < options.windows; first += batch) {
    const int64_t count = std::min(batch, options.windows - first);
    // The windows of one seed draw from generators that no neighbouring seed uses.
    const uint64_t seed = options.seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(first);
    const auto rows = std::span(text).subspan(static_cast<size_t>(first * options.window),
                                              static_cast<size_t>(count * options.window));
    Batch run(model, rows, options.window, seed);
    for (int64_t position = 1; position < options.window; ++position) {
      run.step(static_cast<size_t>(position));
      reporter.progress("sampling text", first * options.window + count * (position + 1),
                        options.windows * options.window);
    }
  }
  return text;
}

}  // namespace tessera
