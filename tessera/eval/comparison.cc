// Models side by side.
#include "tessera/eval/comparison.h"

#include <algorithm>
#include <cmath>

#include "tessera/base/parallel.h"
#include "tessera/eval/logit_statistics.h"

namespace tessera {
namespace {

constexpr int64_t kKeptFloats = int64_t{1} << 25;  // 128 MiB of the reference's logits and residual stream

/// Ids that all models run before any goes on.
int64_t piece_length(const ModelSpec& spec) {
  const int64_t floats_per_id = spec.vocab_size + spec.n_layers * spec.hidden_size;
  return std::clamp<int64_t>(kKeptFloats / floats_per_id, 1, Model::kChunk);
}

/// Consecutive ids of a window.
struct Piece {
  std::span<const int32_t> ids;
  int64_t first = 0;  ///< place of ids[0] in the window
};

/// A model in the comparison with its state within the window.
struct Runner {
  Model& model;
  KvCache cache;
  std::vector<double> nll;         ///< of each prediction of the window
  std::vector<double> window_nll;  ///< of each finished window

  Runner(Model& m, const Windows& windows)
      : model(m),
        cache(m.make_cache(windows.length)),
        nll(static_cast<size_t>(windows.predictions_per_window())) {}

  void finish_window() {
    window_nll.push_back(mean_error(nll).mean);
    if (!std::isfinite(window_nll.back())) {
      throw Error("{}: the model's logits are not finite; its weights are damaged or overflow",
                  model.dir().string());
    }
    cache.length = 0;
  }
};

struct Candidate : Runner {
  std::vector<Divergence> divergences;   ///< of each prediction of the window
  std::vector<double> kl;                ///< of each prediction of all finished windows
  int64_t agreements = 0;                ///< predictions whose likeliest token is the reference's
  std::vector<double> error, magnitude;  ///< of each layer: sums of (h - h_ref)^2 and of h_ref^2

  Candidate(Model& m, const Windows& windows)
      : Runner(m, windows),
        divergences(nll.size()),
        error(static_cast<size_t>(m.spec().n_layers)),
        magnitude(error.size()) {}

  void add_layer_error(size_t layer, std::span<const float> hidden, std::span<const float> reference) {
    for (size_t i = 0; i < hidden.size(); ++i) {
      const double h = reference[i], difference = hidden[i] - h;
      error[layer] += difference * difference;
      magnitude[layer] += h * h;
    }
  }

  void finish_window() {
    Runner::finish_window();
    for (const Divergence& d : divergences) {
      kl.push_back(d.kl);
      agreements += d.same_top;
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
    for (size_t i = 0; i < error.size(); ++i) out.layer_error.push_back(std::sqrt(error[i] / magnitude[i]));
    return out;
  }
};

class Comparer {
 public:
  Comparer(Model& reference, std::span<Model* const> candidates, const Windows& windows)
      : windows_(windows),
        vocab_(static_cast<size_t>(reference.spec().vocab_size)),
        reference_(reference, windows),
        hidden_(static_cast<size_t>(reference.spec().n_layers)) {
    for (Model* model : candidates) candidates_.emplace_back(*model, windows);
  }

  void run_window(int64_t index) {
    window_ = windows_[index];
    const int64_t end = windows_.length - 1, length = piece_length(reference_.model.spec());
    for (int64_t first = 0; first < end; first += length) {
      const int64_t count = std::min(length, end - first);
      const Piece piece{window_.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), first};
      run_reference(piece);
      for (Candidate& candidate : candidates_) run_candidate(candidate, piece);
    }
    reference_.finish_window();
    for (Candidate& candidate : candidates_) candidate.finish_window();
  }

  Comparison result() const {
    Comparison out{.reference = summarize(windows_, reference_.window_nll)};
    for (const Candidate& c : candidates_) out.candidates.push_back(c.result(windows_, out.reference));
    return out;
  }

 private:
  using Row = std::span<const float>;

  void run_reference(const Piece& piece) {
    logits_.clear();
    reference_.model.observe([&](int64_t layer, int64_t, Row hidden) {
      if (layer > 0) hidden_[static_cast<size_t>(layer - 1)].assign(hidden.begin(), hidden.end());
    });
    reference_.model.forward(piece.ids, reference_.cache, [&](int64_t first, Row logits) {
      logits_.insert(logits_.end(), logits.begin(), logits.end());
      for_predictions(piece.first + first, logits, [&](size_t prediction, int32_t token, Row row) {
        reference_.nll[prediction] = negative_log_likelihood(row, token);
      });
    });
    reference_.model.observe(nullptr);
  }

  void run_candidate(Candidate& candidate, const Piece& piece) {
    candidate.model.observe([&](int64_t layer, int64_t, Row hidden) {
      if (layer == 0) return;
      const auto block = static_cast<size_t>(layer - 1);
      candidate.add_layer_error(block, hidden, hidden_[block]);
    });
    candidate.model.forward(piece.ids, candidate.cache, [&](int64_t first, Row logits) {
      for_predictions(piece.first + first, logits, [&](size_t prediction, int32_t token, Row row) {
        const auto offset =
            static_cast<size_t>(first) * vocab_ + static_cast<size_t>(row.data() - logits.data());
        candidate.nll[prediction] = negative_log_likelihood(row, token);
        candidate.divergences[prediction] = divergence(Row(logits_).subspan(offset, vocab_), row);
      });
    });
    candidate.model.observe(nullptr);
  }

  /// Calls body(prediction of the window, predicted id, logits) for the rows of `logits`, the first of which
  /// stands at `first` in the window, as far as they predict something.
  template <class Body>
  void for_predictions(int64_t first, Row logits, const Body& body) const {
    const int64_t skipped = windows_.first_predicted - 1;
    parallel_for(static_cast<int64_t>(logits.size() / vocab_), [&](int64_t row) {
      if (first + row < skipped) return;
      body(static_cast<size_t>(first + row - skipped), window_[static_cast<size_t>(first + row + 1)],
           logits.subspan(static_cast<size_t>(row) * vocab_, vocab_));
    });
  }

  const Windows& windows_;
  size_t vocab_;
  Runner reference_;
  std::vector<Candidate> candidates_;
  std::span<const int32_t> window_;         ///< the one that runs
  std::vector<float> logits_;               ///< of the reference, this piece
  std::vector<std::vector<float>> hidden_;  ///< of the reference, this piece, behind each block
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
  Comparer comparer(reference, candidates, windows);
  for (int64_t i = 0; i < windows.count(); ++i) {
    comparer.run_window(i);
    reporter.progress("comparing", i + 1, windows.count());
  }
  return comparer.result();
}

}  // namespace tessera
