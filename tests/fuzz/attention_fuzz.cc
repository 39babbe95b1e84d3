// KV cache and attention against the reference: the input chooses heads, lengths, formats and instruction
// set.
#include <stdexcept>

#include "choices.h"
#include "hostile_input.h"
#include "tessera/base/parallel.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/cpu/test_attention.h"

namespace tessera {

void read_hostile_input(std::string_view input) {
  constexpr KvFormat kFormats[] = {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4};
  set_thread_count(1);
  Choices choices(input);
  const int64_t kv_heads = 1 + choices.below(2);
  const Shape3 shape{kv_heads * (1 + choices.below(2)), kv_heads, 16 * (1 + choices.below(3))};
  const KvFormat format = choices.one_of(kFormats);
  const int64_t past = choices.below(70), m = 1 + choices.below(6);
  const Rule rule{.window = choices.below(3) == 1 ? 1 + choices.below(40) : 0,
                  .alibi = choices.below(3) == 1};
  const std::vector<float> expected = run_attention(*make_reference_backend(), shape, past, m, rule, format);
  const double bound = attention_bound(shape, past + m);
  const CpuIsa isa = choices.one_of(available_cpu_isas());
  const std::vector<float> found = run_attention(*make_cpu_backend(isa), shape, past, m, rule, format);
  for (size_t i = 0; i < found.size(); ++i) {
    if (!(std::abs(found[i] - expected[i]) <= bound)) {
      throw std::logic_error(fmt::format("{}: output {} is {}, not {}: {} tokens behind {}", name_of(isa), i,
                                         found[i], expected[i], m, past));
    }
  }
}

}  // namespace tessera
