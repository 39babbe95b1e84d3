// Weights and errors of tokens.
#include "tessera/quant/block/token_errors.h"

namespace tessera {
namespace {

/// Keeps tokens of zeros from dividing by zero: they count in full, and as exact where nothing is put out.
constexpr double kTiny = 0x1p-100;
/// Times the median energy: what a token may count for. Ordinary tokens differ by less, and those with more
/// energy do matter more; massive ones have a hundred to a million times as much.
constexpr double kMostMedians = 8;

}  // namespace

at::Tensor token_weights(const at::Tensor& x) {
  const at::Tensor energy = x.square().mean({-1}, /*keepdim=*/true).clamp_min_(kTiny);
  return (energy.median() * kMostMedians / energy).clamp_max_(1);
}

at::Tensor weighted_tokens(const at::Tensor& x) {
  return x * token_weights(x).sqrt_();
}

at::Tensor typical_absmax(const at::Tensor& x) {
  return at::amax(weighted_tokens(x.reshape({-1, x.size(-1)})).abs_(), {0});
}

at::Tensor weighted_error(const at::Tensor& output, const at::Tensor& reference) {
  return ((output - reference).square() * token_weights(reference)).mean();
}

at::Tensor token_errors(const at::Tensor& output, const at::Tensor& reference) {
  return (output - reference).norm(2, {-1}) / reference.norm(2, {-1}).clamp_min_(kTiny);
}

}  // namespace tessera
