// The norm behind the last block, fitted to quantized blocks.
#include "tessera/quant/passes/final_norm.h"

#include <gtest/gtest.h>

#include "tessera/quant/block/test_models.h"
#include "tessera/quant/block/token_errors.h"

namespace tessera {
namespace {

/// What a model's last block gives, and the same with noise that differs by channel.
struct NoisyStream {
  explicit NoisyStream(bool layer_norm, int64_t windows = 8)
      : model(make_test_model({.biases = layer_norm, .layer_norm = layer_norm})) {
    at::manual_seed(4);
    x_float = at::randn({windows, 32, model.spec.hidden_size}) * (at::rand({model.spec.hidden_size}) + 0.5);
    x_quant = x_float + at::randn_like(x_float) * at::rand({model.spec.hidden_size});
  }

  FinalNormFit fit() const {
    return fit_final_norm(model.spec, model.outer.final_gain, model.outer.final_bias, x_float, x_quant);
  }

  /// Weighted square error of the norm with this gain and bias, over all windows.
  double loss(const at::Tensor& gain, const at::Tensor& bias) const {
    const at::Tensor target = normalize(model.spec, x_float, model.outer.final_gain, model.outer.final_bias);
    double sum = 0;
    for (int64_t i = 0; i < x_quant.size(0); ++i)
      sum += weighted_error(normalize(model.spec, x_quant[i], gain, bias), target[i]).item<double>();
    return sum;
  }

  TestModel model;
  at::Tensor x_float, x_quant;
};

TEST(FinalNorm, FitIsTheLeastOfSquares) {
  for (const bool layer_norm : {false, true}) {
    const NoisyStream stream(layer_norm);
    const FinalNormFit fit = stream.fit();
    EXPECT_EQ(fit.bias.defined(), layer_norm);
    EXPECT_EQ(fit.gain.scalar_type(), at::kFloat);
    const double least = stream.loss(fit.gain, fit.bias);
    EXPECT_LT(least, 0.95 * stream.loss(stream.model.outer.final_gain, stream.model.outer.final_bias));
    for (const double factor : {0.98, 1.02}) {
      EXPECT_GT(stream.loss(fit.gain * factor, fit.bias), least);
      if (layer_norm) {
        EXPECT_GT(stream.loss(fit.gain, fit.bias + (factor - 1)), least);
      }
    }
  }
}

TEST(FinalNorm, ErrorsAreThoseOfWindowsThatJudge) {
  for (const bool layer_norm : {false, true}) {
    NoisyStream stream(layer_norm);
    const FinalNormFit fit = stream.fit();
    EXPECT_LT(fit.error_after, fit.error_before);
    // The second of two windows judges: what is fitted to the first alone does not fit it.
    stream.x_float = stream.x_float.narrow(0, 0, 2);
    stream.x_quant = stream.x_float.clone();
    stream.x_quant[0] += at::randn_like(stream.x_quant[0]) * 3;
    const FinalNormFit misled = stream.fit();
    EXPECT_LT(misled.error_before, 1e-6);
    EXPECT_GT(misled.error_after, 0.1);
  }
}

TEST(FinalNorm, IsTheModelsOwnWhereNothingIsQuantized) {
  for (const bool layer_norm : {false, true}) {
    NoisyStream stream(layer_norm, /*windows=*/1);
    stream.x_quant = stream.x_float;
    const FinalNormFit fit = stream.fit();
    EXPECT_LT(relative_error(fit.gain, stream.model.outer.final_gain), 1e-5);
    if (layer_norm) {
      EXPECT_LT(relative_error(fit.bias, stream.model.outer.final_bias), 1e-5);
    }
    EXPECT_LT(fit.error_before, 1e-6);
    EXPECT_LT(fit.error_after, 1e-6);
  }
}

TEST(FinalNorm, ChannelsWithoutEnergyStay) {
  for (const bool layer_norm : {false, true}) {
    NoisyStream stream(layer_norm);
    stream.x_quant.zero_();
    const FinalNormFit fit = stream.fit();
    EXPECT_TRUE(at::equal(fit.gain, stream.model.outer.final_gain));
    if (layer_norm) {
      EXPECT_TRUE(at::equal(fit.bias, stream.model.outer.final_bias));
    }
  }
}

}  // namespace
}  // namespace tessera
