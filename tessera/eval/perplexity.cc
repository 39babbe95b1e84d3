// Perplexity of one model.
#include "tessera/eval/perplexity.h"

#include <cmath>
#include <numeric>

#include "tessera/base/parallel.h"
#include "tessera/eval/logit_statistics.h"
#include "tessera/eval/statistics.h"

namespace tessera {
namespace {

/// Mean NLL of the predicted ids of one window. Logits of ids that predict nothing are not computed.
double window_nll(Model& model, KvCache& cache, std::span<const int32_t> window, int64_t first_predicted) {
  const auto vocab = static_cast<size_t>(model.spec().vocab_size);
  const auto first_row = static_cast<size_t>(first_predicted - 1);
  cache.length = 0;
  if (first_row > 0) model.forward(window.first(first_row), cache);
  std::vector<double> nll(window.size() - 1 - first_row);
  model.forward(window.subspan(first_row, nll.size()), cache,
                [&](int64_t first, std::span<const float> logits) {
                  parallel_for(static_cast<int64_t>(logits.size() / vocab), [&](int64_t row) {
                    const auto i = static_cast<size_t>(first + row);
                    nll[i] = negative_log_likelihood(logits.subspan(static_cast<size_t>(row) * vocab, vocab),
                                                     window[first_row + i + 1]);
                  });
                });
  return std::accumulate(nll.begin(), nll.end(), 0.0) / static_cast<double>(nll.size());
}

}  // namespace

double Perplexity::value() const {
  return std::exp(mean_nll);
}

Perplexity summarize(const Windows& windows, std::vector<double> window_nll) {
  const auto [mean, standard_error] = mean_error(window_nll);
  return {.protocol = windows.protocol,
          .window = windows.length,
          .predictions = windows.count() * windows.predictions_per_window(),
          .mean_nll = mean,
          .standard_error = standard_error,
          .window_nll = std::move(window_nll)};
}

Perplexity measure_perplexity(Model& model, const Windows& windows, Reporter& reporter) {
  KvCache cache = model.make_cache(windows.length);
  std::vector<double> means;
  for (int64_t i = 0; i < windows.count(); ++i) {
    means.push_back(window_nll(model, cache, windows[i], windows.first_predicted));
    if (!std::isfinite(means.back())) {
      throw Error("{}: the model's logits are not finite; its weights are damaged or overflow",
                  model.dir().string());
    }
    reporter.progress("perplexity", i + 1, windows.count());
  }
  return summarize(windows, std::move(means));
}

}  // namespace tessera
