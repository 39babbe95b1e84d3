// Layers of every format against the reference arithmetic: the input chooses format, shape and instruction
// set.
#include <stdexcept>

#include "choices.h"
#include "hostile_input.h"
#include "tessera/base/parallel.h"
#include "tessera/eval/kernel_check.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"
#include "tessera/kernels/cpu/cpu_backend.h"

namespace tessera {
namespace {

LayerOptions layer_options(Choices& choices) {
  constexpr WeightFormat kFormats[] = {WeightFormat::kInt4, WeightFormat::kInt8, WeightFormat::kUint4Grouped,
                                       WeightFormat::kUint4Float};
  constexpr int64_t kGroups[] = {32, 64, 128};
  constexpr int kBits[] = {8, 4, 16};
  LayerOptions o{.format = choices.one_of(kFormats), .n = 1 + choices.below(70)};
  const bool grouped = o.format == WeightFormat::kUint4Grouped || o.format == WeightFormat::kUint4Float;
  o.group_size = grouped ? choices.one_of(kGroups) : 0;
  o.k = grouped ? o.group_size * (1 + choices.below(2)) : 2 * (1 + choices.below(100));
  o.activation.bits = o.format == WeightFormat::kUint4Float ? 16 : choices.one_of(kBits);
  const bool integers = !o.activation.weight_only();
  if (!integers) o.n += 31;  // float sums are judged by a token's largest output: one alone can cancel
  o.activation.symmetric = !integers || choices.below(2) == 0;
  o.activation.per_token = !integers || choices.below(4) > 0;
  o.group_zeros = grouped && choices.below(2) == 1;
  o.bias = choices.below(2) == 1;
  // Equal weights cancel where inputs do: float sums then err by more than the check allows.
  if (integers && choices.below(3) == 1)
    o.extreme = static_cast<int>(choices.below(o.format == WeightFormat::kInt8 ? 128 : 8));
  return o;
}

}  // namespace

void read_hostile_input(std::string_view input) {
  set_thread_count(1);
  Choices choices(input);
  const LayerOptions options = layer_options(choices);
  const QuantizedLinear linear = random_layer(options, static_cast<unsigned>(choices.below(256)));
  const int64_t m = 1 + choices.below(20);
  const std::vector<float> x = random_floats(m * linear.k_in(), static_cast<unsigned>(choices.below(256)));
  std::vector<float> expected(static_cast<size_t>(m * linear.n));
  reference_forward(linear, x, m, expected);
  const CpuIsa isa = choices.one_of(available_cpu_isas());
  KernelCheck check;
  check_kernel("layer", linear, x, m, expected, *make_cpu_backend(isa), check);
  if (check.outputs_off > 0) {
    throw std::logic_error(fmt::format("{}, {}: {} of {} outputs are off: {} tokens, {} x {}", name_of(isa),
                                       describe(linear), check.outputs_off, check.outputs, m, linear.n,
                                       linear.k));
  }
}

}  // namespace tessera
