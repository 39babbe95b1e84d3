// Perplexity of one model.
#pragma once

#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/eval/windows.h"
#include "tessera/model/model.h"

namespace tessera {

struct Perplexity {
  Protocol protocol = Protocol::kGptq;
  bool bos = false;                     ///< Windows::bos
  int64_t window = 0;                   ///< ids a window
  int64_t predictions = 0;              ///< over all windows
  double mean_nll = 0;                  ///< nats a predicted token
  double standard_error = 0;            ///< of mean_nll, from the spread of the windows; 0 for a single one
  std::vector<double> window_nll = {};  ///< mean of each window

  double value() const;
  /// Of value(), to first order.
  double value_error() const { return value() * standard_error; }
};

/// From the mean NLL of each window.
Perplexity summarize(const Windows& windows, std::vector<double> window_nll);

/// Runs every window by itself. Throws Error when the model's logits are not finite.
Perplexity measure_perplexity(Model& model, const Windows& windows, Reporter& reporter);

}  // namespace tessera
