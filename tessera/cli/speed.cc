// Timing of prefill and decode.
#include "tessera/cli/speed.h"

#include <algorithm>
#include <chrono>

namespace tessera {
namespace {

double seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Speed measure_speed(Model& model) {
  constexpr int kRuns = 3;
  Speed speed{.prompt_tokens = std::min<int64_t>(256, model.spec().max_positions / 2)};
  const int64_t steps = std::min<int64_t>(64, model.spec().max_positions - speed.prompt_tokens);
  std::vector<int32_t> prompt(static_cast<size_t>(speed.prompt_tokens));
  for (size_t i = 0; i < prompt.size(); ++i) {  // any ids do; these walk the whole vocabulary
    prompt[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(model.spec().vocab_size));
  }
  for (int run = 0; run < kRuns; ++run) {
    KvCache cache = model.make_cache(speed.prompt_tokens + steps);
    const double prefill = seconds([&] { model.forward(prompt, cache); });
    const double decode = seconds([&] {
      for (int64_t i = 0; i < steps; ++i)
        model.forward(std::span(prompt).subspan(static_cast<size_t>(i), 1), cache);
    });
    speed.prefill = std::max(speed.prefill, static_cast<double>(speed.prompt_tokens) / prefill);
    speed.decode = std::max(speed.decode, static_cast<double>(steps) / decode);
  }
  return speed;
}

}  // namespace tessera
