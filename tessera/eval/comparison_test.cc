// Every number of a comparison against the same number from logits in double.
#include "tessera/eval/comparison.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "tessera/kernels/backends.h"
#include "tessera/model/context.h"
#include "tessera/model/test_llama.h"

namespace tessera {
namespace {

constexpr int64_t kWindow = 20, kVocab = 50;

/// A tiny model and a copy of it with perturbed weights.
class ComparisonTest : public testing::Test {
 protected:
  ComparisonTest() {
    for (auto& [name, tensor] : noisy_.float_tensors) {
      for (float& v : tensor.as<float>()) v += 0.02f * static_cast<float>(noisy_.uniform());
    }
    for (int i = 0; i < 3 * kWindow; ++i) ids_.push_back(llama_.integer(0, kVocab - 1));
    llama_.write(dir_ / "float");
    noisy_.write(dir_ / "noisy");
    model_ = Model::load(dir_ / "float", *backend_);
    candidate_ = Model::load(dir_ / "noisy", *backend_);
  }
  ~ComparisonTest() override { std::filesystem::remove_all(dir_); }

  Comparison compare(Protocol protocol) {
    const Windows windows = cut_windows(ids_, {.protocol = protocol, .window = kWindow}, model_->spec(), {});
    Reporter silent;
    Model* const candidates[] = {candidate_.get(), model_.get()};
    return compare_models(*model_, candidates, windows, silent);
  }

  /// Softmax of the logits behind every id of window w.
  static std::vector<std::vector<double>> probabilities(const TestLlama& llama,
                                                        std::span<const int32_t> window) {
    auto rows = llama.logits(window);
    for (auto& row : rows) {
      double total = 0;
      for (double& v : row) total += v = std::exp(v);
      for (double& v : row) v /= total;
    }
    return rows;
  }

  TestLlama llama_, noisy_;  // the same seed: equal before the noise
  std::vector<int32_t> ids_;
  std::filesystem::path dir_ =
      std::filesystem::temp_directory_path() / fmt::format("comparison_test_{}", getpid());
  std::unique_ptr<Backend> backend_ = make_backend("reference");
  std::unique_ptr<Model> model_, candidate_;
};

TEST_F(ComparisonTest, AgreesWithDoublePrecision) {
  for (Protocol protocol : {Protocol::kGptq, Protocol::kLlamaCpp}) {
    const size_t first = protocol == Protocol::kGptq ? 1 : kWindow / 2 + 1;
    std::vector<double> kl, nll, reference_nll;
    double agreements = 0;
    for (size_t w = 0; w < 3; ++w) {
      const auto window = std::span<const int32_t>(ids_).subspan(w * kWindow, kWindow);
      const auto p = probabilities(llama_, window), q = probabilities(noisy_, window);
      for (size_t i = first; i < kWindow; ++i) {
        const auto &a = p[i - 1], &b = q[i - 1];
        double sum = 0;
        for (size_t v = 0; v < kVocab; ++v) sum += a[v] * std::log(a[v] / b[v]);
        kl.push_back(sum);
        nll.push_back(-std::log(b[static_cast<size_t>(window[i])]));
        reference_nll.push_back(-std::log(a[static_cast<size_t>(window[i])]));
        agreements += std::max_element(a.begin(), a.end()) - a.begin() ==
                      std::max_element(b.begin(), b.end()) - b.begin();
      }
    }
    const Comparison got = compare(protocol);
    const ModelComparison& c = got.candidates[0];
    EXPECT_NEAR(got.reference.mean_nll, mean_error(reference_nll).mean, 1e-4);
    EXPECT_NEAR(c.perplexity.mean_nll, mean_error(nll).mean, 1e-4);
    EXPECT_EQ(c.perplexity.predictions, static_cast<int64_t>(nll.size()));
    EXPECT_NEAR(c.nll_difference.mean, mean_error(nll).mean - mean_error(reference_nll).mean, 1e-4);
    EXPECT_GT(c.nll_difference.standard_error, 0);
    const Distribution expected = distribution(kl);
    EXPECT_NEAR(c.kl.mean, expected.mean, 1e-4);
    EXPECT_NEAR(c.kl.median, expected.median, 1e-4);
    EXPECT_NEAR(c.kl.percentile_99, expected.percentile_99, 1e-4);
    EXPECT_NEAR(c.kl.max, expected.max, 1e-4);
    EXPECT_NEAR(c.top_agreement, agreements / static_cast<double>(kl.size()), 1e-9);
    EXPECT_GT(c.kl.mean, 1e-4) << "the noise must show";
  }
}

TEST_F(ComparisonTest, AModelDoesNotDifferFromItself) {
  const ModelComparison same = compare(Protocol::kGptq).candidates[1];
  EXPECT_EQ(same.nll_difference.mean, 0);
  EXPECT_NEAR(same.kl.max, 0, 1e-6);
  EXPECT_EQ(same.top_agreement, 1);
  EXPECT_EQ(same.layer_error, std::vector<double>(2, 0.0));
}

TEST_F(ComparisonTest, LayerErrorIsThatOfTheTypicalToken) {
  std::vector<double> error[2];
  const auto width = static_cast<size_t>(model_->spec().hidden_size);
  std::vector<std::vector<float>> hidden(2);
  for (size_t w = 0; w < 3; ++w) {
    const auto window = std::span<const int32_t>(ids_).subspan(w * kWindow, kWindow - 1);
    for (Model* model : {model_.get(), candidate_.get()}) {
      model->observe([&](int64_t layer, std::span<const float> h) {
        if (layer == 0) return;
        const auto i = static_cast<size_t>(layer - 1);
        if (model == model_.get()) hidden[i].assign(h.begin(), h.end());
        for (size_t t = 0; model == candidate_.get() && t < h.size(); t += width) {
          double square = 0, magnitude = 0;
          for (size_t k = t; k < t + width; ++k) {
            square += std::pow(h[k] - hidden[i][k], 2);
            magnitude += std::pow(hidden[i][k], 2);
          }
          error[i].push_back(std::sqrt(square / magnitude));
        }
      });
      Context(*model, kWindow).forward(window);
      model->observe(nullptr);
    }
  }
  const auto got = compare(Protocol::kGptq).candidates[0].layer_error;
  ASSERT_EQ(got.size(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(got[i], distribution(error[i]).median, 1e-6);
  EXPECT_GT(got[0], 1e-3);
}

TEST_F(ComparisonTest, ModelsOfOtherShapesAreRefused) {
  TestLlama(nlohmann::json{{"num_hidden_layers", 3}}).write(dir_ / "deeper");
  candidate_ = Model::load(dir_ / "deeper", *backend_);
  EXPECT_THROW(compare(Protocol::kGptq), Error);
}

}  // namespace
}  // namespace tessera
