// Timing of prefill and decode.
#include "tessera/cli/speed.h"

#include <algorithm>

#include "tessera/base/stopwatch.h"
#include "tessera/model/context.h"

namespace tessera {

Speed measure_speed(Model& model) {
  constexpr int kRuns = 3;
  Speed speed{.prompt_tokens = std::min<int64_t>(256, model.spec().max_positions / 2)};
  const int64_t steps = std::min<int64_t>(64, model.spec().max_positions - speed.prompt_tokens);
  std::vector<int32_t> prompt(static_cast<size_t>(speed.prompt_tokens));
  for (size_t i = 0; i < prompt.size(); ++i) {  // any ids do; these walk the whole vocabulary
    prompt[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(model.spec().vocab_size));
  }
  for (int run = 0; run < kRuns; ++run) {
    Context context(model, speed.prompt_tokens + steps);
    const Stopwatch prefill;
    context.forward(prompt);
    speed.prefill = std::max(speed.prefill, static_cast<double>(speed.prompt_tokens) / prefill.seconds());
    const Stopwatch decode;
    for (int64_t i = 0; i < steps; ++i) context.forward({&prompt[static_cast<size_t>(i)], 1});
    speed.decode = std::max(speed.decode, static_cast<double>(steps) / decode.seconds());
  }
  return speed;
}

}  // namespace tessera
