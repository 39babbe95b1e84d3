// Models side by side.
#include "tessera/eval/comparison.h"

#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/eval/logit_statistics.h"
#include "tessera/eval/scoring.h"

namespace tessera {
namespace {

constexpr int64_t kKeptFloats = int64_t{1} << 25;  // 128 MiB of the reference's logits and residual stream

/// Ids that all models run before any goes on.
int64_t step_tokens(const Model& model) {
  const ModelSpec& spec = model.spec();
  const int64_t floats_per_id = spec.vocab_size + spec.n_layers * spec.hidden_size;
  return std::clamp<int64_t>(kKeptFloats / floats_per_id, 1, model.max_rows());
}

/// A model in the comparison. All of them run the same windows in the same steps.
struct Runner {
  Model& model;
  BatchEngine engine;
  std::vector<double> window_nll;  ///< of each window; sums until finish()

  Runner(Model& m, const Windows& windows)
      : model(m),
        engine(m, scoring_options(windows, step_tokens(m))),
        window_nll(static_cast<size_t>(windows.count())) {}

  void finish(const Windows& windows) {
    for (double& nll : window_nll) {
      nll /= static_cast<double>(windows.predictions_per_window());
      if (std::isfinite(nll)) continue;
      throw Error("{}: the model's logits are not finite; its weights are damaged or overflow",
                  model.dir().string());
    }
  }
};

struct Candidate : Runner {
  std::vector<double> kl;                 ///< of each prediction of all windows
  int64_t agreements = 0;                 ///< predictions whose likeliest token is the reference's
  std::vector<std::vector<float>> error;  ///< of each layer, of each token: ||h - h_ref|| / ||h_ref||

  Candidate(Model& m, const Windows& windows)
      : Runner(m, windows),
        kl(static_cast<size_t>(windows.count() * windows.predictions_per_window())),
        error(static_cast<size_t>(m.spec().n_layers)) {}

  /// hidden and reference [tokens, hidden_size]
  void add_layer_error(size_t layer, std::span<const float> hidden, std::span<const float> reference) {
    const auto width = static_cast<size_t>(model.spec().hidden_size);
    for (size_t first = 0; first < hidden.size(); first += width) {
      double square = 0, magnitude = 0;
      for (size_t i = first; i < first + width; ++i) {
        const double h = reference[i], difference = hidden[i] - h;
        square += difference * difference;
        magnitude += h * h;
      }
      constexpr double kTiny = 1e-30;  // a token of zeros without an error counts as exact
      error[layer].push_back(static_cast<float>(std::sqrt(square / std::max(magnitude, kTiny))));
    }
  }

  ModelComparison result(const Windows& windows, const Perplexity& reference) const {
    ModelComparison out;
    out.perplexity = summarize(windows, window_nll);
    std::vector<double> differences;
    for (size_t i = 0; i < window_nll.size(); ++i)
      differences.push_back(window_nll[i] - reference.window_nll[i]);
    out.nll_difference = mean_error(differences);
    out.kl = distribution(kl);
    out.top_agreement = static_cast<double>(agreements) / static_cast<double>(kl.size());
    for (const std::vector<float>& tokens : error)
      out.layer_error.push_back(distribution({tokens.begin(), tokens.end()}).median);
    return out;
  }
};

class Comparer {
 public:
  Comparer(Model& reference, std::span<Model* const> candidates, const Windows& windows, Reporter& reporter)
      : windows_(windows),
        reporter_(reporter),
        vocab_(static_cast<size_t>(reference.spec().vocab_size)),
        reference_(reference, windows),
        hidden_(static_cast<size_t>(reference.spec().n_layers)) {
    for (Model* model : candidates) candidates_.push_back(std::make_unique<Candidate>(*model, windows));
  }

  Comparison run() {
    submit_windows();
    while (step()) {
    }
    reference_.finish(windows_);
    Comparison out{.reference = summarize(windows_, reference_.window_nll)};
    for (const auto& candidate : candidates_) {
      candidate->finish(windows_);
      out.candidates.push_back(candidate->result(windows_, out.reference));
    }
    return out;
  }

 private:
  using Row = std::span<const float>;

  void submit_windows() {
    for (int64_t i = 0; i < windows_.count(); ++i) {
      Request request = scoring_request(windows_, i);
      request.on_logits = [this, i](int64_t first, Row logits) { take_reference(i, first, logits); };
      request.on_finish = [this](FinishReason) {
        reporter_.progress("comparing, windows", ++finished_, windows_.count());
      };
      reference_.engine.submit(std::move(request));
      for (const auto& candidate : candidates_) {
        Request same = scoring_request(windows_, i);
        same.on_logits = [this, i, c = candidate.get()](int64_t first, Row logits) {
          take_candidate(*c, i, first, logits);
        };
        candidate->engine.submit(std::move(same));
      }
    }
  }

  /// One step of the reference, kept, and the same step of every candidate beside it.
  bool step() {
    logits_.clear();
    reference_.model.observe([&](int64_t layer, Row hidden) {
      if (layer > 0) hidden_[static_cast<size_t>(layer - 1)].assign(hidden.begin(), hidden.end());
    });
    const bool more = reference_.engine.step();
    reference_.model.observe(nullptr);
    for (const auto& candidate : candidates_) {
      taken_ = 0;
      candidate->model.observe([&](int64_t layer, Row hidden) {
        if (layer == 0) return;
        const auto block = static_cast<size_t>(layer - 1);
        candidate->add_layer_error(block, hidden, hidden_[block]);
      });
      candidate->engine.step();
      candidate->model.observe(nullptr);
    }
    return more;
  }

  void take_reference(int64_t window, int64_t first, Row logits) {
    logits_.insert(logits_.end(), logits.begin(), logits.end());
    add_nll(reference_, window, first, logits);
  }

  void take_candidate(Candidate& candidate, int64_t window, int64_t first, Row logits) {
    add_nll(candidate, window, first, logits);
    const Row reference = Row(logits_).subspan(taken_, logits.size());
    taken_ += logits.size();
    std::vector<Divergence> divergences(logits.size() / vocab_);
    parallel_for(std::ssize(divergences), [&](int64_t row) {
      const size_t offset = static_cast<size_t>(row) * vocab_;
      divergences[static_cast<size_t>(row)] =
          divergence(reference.subspan(offset, vocab_), logits.subspan(offset, vocab_));
    });
    const int64_t prediction = first - (windows_.first_predicted - 1);
    auto kl = candidate.kl.begin() + window * windows_.predictions_per_window() + prediction;
    for (const Divergence& d : divergences) {
      *kl++ = d.kl;
      candidate.agreements += d.same_top;
    }
  }

  /// Adds what the rows behind ids first, first + 1, ... of a window predict of the id behind each.
  void add_nll(Runner& runner, int64_t window, int64_t first, Row logits) const {
    std::vector<double> nll(logits.size() / vocab_);
    parallel_for(std::ssize(nll), [&](int64_t row) {
      nll[static_cast<size_t>(row)] =
          negative_log_likelihood(logits.subspan(static_cast<size_t>(row) * vocab_, vocab_),
                                  windows_[window][static_cast<size_t>(first + row + 1)]);
    });
    for (double value : nll) runner.window_nll[static_cast<size_t>(window)] += value;
  }

  const Windows& windows_;
  Reporter& reporter_;
  size_t vocab_;
  Runner reference_;
  std::vector<std::unique_ptr<Candidate>> candidates_;
  std::vector<float> logits_;               ///< of the reference, this step
  std::vector<std::vector<float>> hidden_;  ///< of the reference, this step, behind each block
  size_t taken_ = 0;                        ///< of logits_, by the candidate that runs
  int64_t finished_ = 0;
};

void check_same_shape(const Model& reference, const Model& candidate) {
  const ModelSpec &a = reference.spec(), &b = candidate.spec();
  if (a.vocab_size != b.vocab_size || a.hidden_size != b.hidden_size || a.n_layers != b.n_layers) {
    throw Error(
        "{} (vocabulary {}, hidden {}, {} layers) was not made from {} (vocabulary {}, hidden {}, {} layers)",
        candidate.dir().string(), b.vocab_size, b.hidden_size, b.n_layers, reference.dir().string(),
        a.vocab_size, a.hidden_size, a.n_layers);
  }
}

}  // namespace

Comparison compare_models(Model& reference, std::span<Model* const> candidates, const Windows& windows,
                          Reporter& reporter) {
  for (const Model* candidate : candidates) check_same_shape(reference, *candidate);
  return Comparer(reference, candidates, windows, reporter).run();
}

}  // namespace tessera
