// Checks draws on the device against sample_token(): the same id, but where the draw falls on the border of
// two tokens.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "bench/gpu/device.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/base/philox.h"
#include "tessera/kernels/cuda/backend/cuda_sampler.h"

namespace tessera::bench {
namespace {

constexpr double kBorder = 1e-6;
constexpr int64_t kRows = 128;

using Rng = std::mt19937;

float uniform_float(Rng& rng, float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(rng);
}

/// Logits of one row: smooth, with many equal values, or with forbidden tokens.
std::vector<float> random_logits(int64_t width, Rng& rng) {
  std::normal_distribution<float> normal(0, uniform_float(rng, 0.1f, 8));
  const bool coarse = rng() % 3 == 0, forbids = rng() % 4 == 0;
  std::vector<float> logits(static_cast<size_t>(width));
  for (float& logit : logits) {
    logit = normal(rng);
    if (coarse) logit = std::round(logit);
    if (forbids && rng() % 2 == 0) logit = -std::numeric_limits<float>::infinity();
  }
  return logits;
}

SamplingOptions random_options(int64_t width, Rng& rng) {
  SamplingOptions o{.temperature = rng() % 8 == 0 ? 0 : uniform_float(rng, 0.2f, 2), .seed = rng()};
  if (rng() % 2 == 0) o.top_k = 1 + static_cast<int64_t>(rng()) % (2 * width);
  if (rng() % 2 == 0) o.top_p = uniform_float(rng, 0.01f, 1);
  if (rng() % 3 == 0) o.min_p = uniform_float(rng, 0, 0.3f);
  return o;
}

/// Whether the draw's filters or its point come within kBorder of another decision: `other` is drawn, too,
/// when top_p or the point move by so much.
bool near_border(std::span<const float> logits, Draw draw, int32_t other) {
  std::vector<LogitEdit> edits(draw.edits.begin(), draw.edits.end());
  const double point = uniform(draw.options.seed, draw.index);
  // The cumulative probabilities as sample_token() orders them.
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::vector<float> edited(logits.begin(), logits.end());
  for (const LogitEdit& edit : edits)
    edited[static_cast<size_t>(edit.id)] = edit(edited[static_cast<size_t>(edit.id)]);
  const bool ranked = draw.options.top_k > 0 || draw.options.top_p < 1;
  if (ranked) std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return edited[i]; });
  if (draw.options.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(draw.options.top_k)));
  const double best = *std::ranges::max_element(edited);
  std::vector<double> upto;
  double sum = 0;
  for (size_t i : order) {
    const double w = std::exp((edited[i] - best) / draw.options.temperature);
    upto.push_back(sum += w < draw.options.min_p ? 0 : w);
  }
  double kept = sum;
  if (draw.options.top_p < 1) {
    const auto end = std::ranges::find_if(upto, [&](double u) { return u >= draw.options.top_p * sum; });
    if (end != upto.begin() && std::abs(*(end - 1) / sum - draw.options.top_p) < kBorder) return true;
    if (std::abs(*end / sum - draw.options.top_p) < kBorder) return true;
    kept = *end;
  }
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] != static_cast<size_t>(other)) continue;
    const double low = i == 0 ? 0 : upto[i - 1] / kept, high = upto[i] / kept;
    return point > low - kBorder && point < high + kBorder;
  }
  return false;
}

int run() {
  Rng rng(7);
  cuda::CudaSampler sampler(kRows);
  int64_t draws_made = 0, differences = 0, failures = 0;
  for (const int64_t width : {1, 5, 1000, 4096, 32000, 32003, 128256, 151936}) {
    const int64_t stride = (width + 31) / 32 * 32;
    DeviceArray<float> device(static_cast<size_t>(kRows * stride));
    for (int round = 0; round < (width > 32003 ? 20 : 200); ++round) {
      std::vector<std::vector<float>> logits;
      std::vector<std::vector<LogitEdit>> edits(kRows);
      std::vector<Draw> draws;
      std::vector<float> host(device.size());
      for (int64_t r = 0; r < kRows; ++r) {
        const auto i = static_cast<size_t>(r);
        logits.push_back(random_logits(width, rng));
        if (rng() % 64 == 0) logits[i][rng() % logits[i].size()] = std::numeric_limits<float>::quiet_NaN();
        if (rng() % 4 == 0 && width > 100) {
          for (int32_t id = 3; id < 90; id += 7)
            edits[i].push_back(
                {id, uniform_float(rng, 0.5f, 2), rng() % 9 == 0 ? -INFINITY : uniform_float(rng, -1, 4)});
        }
        std::ranges::copy(logits[i], host.begin() + r * stride);
        draws.push_back({random_options(width, rng), rng(), edits[i]});
      }
      cuda::check(cudaMemcpy(device.data(), host.data(), host.size() * sizeof(float), cudaMemcpyHostToDevice),
                  "upload");
      std::vector<int32_t> ids(kRows), want(kRows);
      sampler.sample({device.data(), DType::kF32, kRows, width, stride}, draws, ids, nullptr);
      parallel_for_dynamic(kRows, [&](int64_t r) {
        want[static_cast<size_t>(r)] =
            sample_token(logits[static_cast<size_t>(r)], draws[static_cast<size_t>(r)]);
      });
      for (size_t i = 0; i < ids.size(); ++i) {
        ++draws_made;
        if (ids[i] == want[i]) continue;
        ++differences;
        if (ids[i] >= 0 && want[i] >= 0 && draws[i].options.temperature > 0 &&
            near_border(logits[i], draws[i], ids[i]))
          continue;
        if (++failures > 10) continue;
        const SamplingOptions& o = draws[i].options;
        fmt::print("width {}: drew {}, expected {}; temperature {}, top_k {}, top_p {}, min_p {}\n", width,
                   ids[i], want[i], o.temperature, o.top_k, o.top_p, o.min_p);
      }
    }
  }
  fmt::print("{} draws, {} on a border, {} failures\n", draws_made, differences - failures, failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tessera::bench

int main() {
  return tessera::bench::status_of(tessera::bench::run);
}
