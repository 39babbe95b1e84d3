// Perplexity of one model.
#include "tessera/eval/perplexity.h"

#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/eval/logit_statistics.h"
#include "tessera/eval/scoring.h"
#include "tessera/eval/statistics.h"

namespace tessera {
double Perplexity::value() const {
  return std::exp(mean_nll);
}

Perplexity summarize(const Windows& windows, std::vector<double> window_nll) {
  const auto [mean, standard_error] = mean_error(window_nll);
  return {.protocol = windows.protocol,
          .bos = windows.bos,
          .window = windows.length,
          .predictions = windows.count() * windows.predictions_per_window(),
          .mean_nll = mean,
          .standard_error = standard_error,
          .window_nll = std::move(window_nll)};
}

Perplexity measure_perplexity(Model& model, const Windows& windows, Reporter& reporter) {
  const auto vocab = static_cast<size_t>(model.spec().vocab_size);
  std::vector<double> sums(static_cast<size_t>(windows.count()));
  int64_t finished = 0;
  BatchEngine engine(model, scoring_options(windows, model.max_rows()));
  for (int64_t i = 0; i < windows.count(); ++i) {
    const std::span<const int32_t> window = windows[i];
    Request request = scoring_request(windows, i);
    request.on_logits = [&, window, i](int64_t first, std::span<const float> logits) {
      std::vector<double> nll(logits.size() / vocab);
      parallel_for(std::ssize(nll), [&](int64_t row) {
        nll[static_cast<size_t>(row)] =
            negative_log_likelihood(logits.subspan(static_cast<size_t>(row) * vocab, vocab),
                                    window[static_cast<size_t>(first + row + 1)]);
      });
      for (double value : nll) sums[static_cast<size_t>(i)] += value;
    };
    request.on_finish = [&](FinishReason) {
      reporter.progress("perplexity, windows", ++finished, windows.count());
    };
    engine.submit(std::move(request));
  }
  while (engine.step()) {
  }
  for (double& sum : sums) {
    sum /= static_cast<double>(windows.predictions_per_window());
    if (!std::isfinite(sum)) {
      throw Error("{}: the model's logits are not finite; its weights are damaged or overflow",
                  model.dir().string());
    }
  }
  return summarize(windows, std::move(sums));
}

}  // namespace tessera
