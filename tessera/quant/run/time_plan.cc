// A measured speed times what passes say that they cost.
#include "tessera/quant/run/time_plan.h"

#include <algorithm>
#include <cmath>

#include "tessera/base/stopwatch.h"
#include "tessera/quant/block/streams.h"

namespace tessera {

double seconds_a_token(const RunPlan& plan, const QuantizationConfig* source,
                       const std::vector<int32_t>& window, const at::Device& device) {
  constexpr size_t kTokens = 512;
  const std::vector<int32_t> part(
      window.begin(), window.begin() + static_cast<std::ptrdiff_t>(std::min(kTokens, window.size())));
  const auto tensor = [&](const std::string& name) { return plan.checkpoint.at(name); };
  const at::Tensor x = embed_windows(plan.spec, tensor, std::span(&part, 1), device);
  const Block block = load_block(plan.checkpoint, plan.spec, 0, device, source);
  const auto seconds = [&] {
    const Stopwatch watch;
    block_step(plan.spec, block, float_linears(block), x).sum().item<double>();  // waits for a GPU
    return watch.seconds();
  };
  seconds();  // libraries warm up
  return std::min(seconds(), seconds()) / static_cast<double>(part.size());
}

double token_passes(const RunPlan& plan, int64_t blocks, int64_t windows, int64_t tokens) {
  constexpr double kStreams = 2;
  double passes = kStreams * static_cast<double>(windows * tokens);
  for (const auto& pass : plan.passes) passes += pass->token_passes(plan.spec, windows, tokens);
  return static_cast<double>(blocks) * passes;
}

std::string time_note(double seconds, const at::Device& device) {
  constexpr double kMinute = 60, kHour = 3600, kLong = 2 * kHour;
  const std::string time = seconds < 2 * kMinute ? fmt::format("{:.0f} s", std::ceil(seconds))
                           : seconds < kLong     ? fmt::format("{:.0f} min", seconds / kMinute)
                                                 : fmt::format("{:.1f} h", seconds / kHour);
  return "expected time " + time +
         (device.is_cpu() && seconds > kLong
              ? "; --device cuda takes minutes, fewer --windows or --method rtn less here"
              : "");
}

}  // namespace tessera
