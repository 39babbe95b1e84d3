// Least squares by channel, from moments.
#include "tessera/quant/passes/final_norm.h"

#include <cmath>

#include "tessera/quant/block/block.h"
#include "tessera/quant/block/token_errors.h"

namespace tessera {
namespace {

/// Share of a channel's energy that has to vary for a line to be fitted through it.
constexpr double kLeastVariance = 1e-9;

/// A line y = gain x + bias for every channel, [hidden] in float64.
struct Lines {
  at::Tensor gain, bias;
};

/// Weighted sums over tokens of a channel's input x and wanted output y, [hidden] in float64.
struct Moments {
  explicit Moments(int64_t hidden) : sums(at::zeros({6, hidden}, at::kDouble)) {}

  /// x, y [tokens, hidden], weight [tokens, 1].
  void add(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight) {
    const at::Tensor wx = x * weight, wy = y * weight;
    const at::Tensor rows[] = {weight.expand_as(x), wx, wy, wx * x, wx * y, wy * y};
    for (int64_t i = 0; i < 6; ++i) sums[i] += rows[i].sum({0}).cpu();
  }

  Moments operator+(const Moments& other) const {
    Moments result = *this;
    result.sums = sums + other.sums;
    return result;
  }

  /// The lines that are nearest; `given` where x does not vary. Without bias they pass through zero.
  Lines solve(const Lines& given, bool with_bias) const {
    const at::Tensor n = sums[0], x = sums[1], y = sums[2], xx = sums[3], xy = sums[4];
    if (!with_bias) return {at::where(xx > 0, xy / xx, given.gain), given.bias};
    const at::Tensor variance = xx - x * x / n, varies = variance > kLeastVariance * xx;
    const at::Tensor gain = at::where(varies, (xy - x * y / n) / variance, given.gain);
    return {gain, at::where(varies, (y - gain * x) / n, given.bias)};
  }

  /// ||gain x + bias - y|| / ||y|| over all channels.
  double error(const Lines& lines) const {
    const at::Tensor n = sums[0], x = sums[1], y = sums[2], xx = sums[3], xy = sums[4], yy = sums[5];
    const auto& [gain, bias] = lines;
    const at::Tensor squares =
        gain * gain * xx + bias * bias * n + yy + 2 * (gain * bias * x - gain * xy - bias * y);
    return std::sqrt(squares.sum().item<double>() / yy.sum().item<double>());
  }

  at::Tensor sums;  ///< of 1, x, y, x x, x y, y y
};

}  // namespace

FinalNormFit fit_final_norm(const ModelSpec& spec, const at::Tensor& gain, const at::Tensor& bias,
                            const at::Tensor& x_float, const at::Tensor& x_quant) {
  const int64_t windows = x_quant.size(0);
  const at::Tensor ones = at::ones_like(gain);
  Moments halves[] = {Moments(spec.hidden_size), Moments(spec.hidden_size)};  // copies would share sums
  for (int64_t i = 0; i < windows; ++i) {
    const at::Tensor y = normalize(spec, x_float[i], gain, bias);
    halves[i % 2].add(normalize(spec, x_quant[i], ones, {}).to(at::kDouble), y.to(at::kDouble),
                      token_weights(y).to(at::kDouble));
  }
  const Moments &seen = halves[0], &unseen = halves[windows > 1 ? 1 : 0];
  const bool with_bias = bias.defined();
  const at::Tensor host_gain = gain.cpu().to(at::kDouble);
  const Lines given{host_gain, with_bias ? bias.cpu().to(at::kDouble) : at::zeros_like(host_gain)};
  const Lines fitted = (halves[0] + halves[1]).solve(given, with_bias);
  return {.gain = fitted.gain.to(gain),
          .bias = with_bias ? fitted.bias.to(bias) : bias,
          .error_before = unseen.error(given),
          .error_after = unseen.error(seen.solve(given, with_bias))};
}

}  // namespace tessera
