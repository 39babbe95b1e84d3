// Float layers: the product cut into tiles.
#include "tessera/kernels/cpu/float_linear.h"

#include <cassert>
#include <cstring>

#include "tessera/base/error.h"
#include "tessera/kernels/cpu/blocking.h"

namespace tessera {

FloatLinear::FloatLinear(const TensorView& weight, std::span<const float> bias, const CpuKernels& kernels)
    : kernels_(kernels), bias_(bias.begin(), bias.end()) {
  const bool known =
      weight.dtype == DType::kF32 || weight.dtype == DType::kF16 || weight.dtype == DType::kBF16;
  if (!known || weight.shape.size() != 2) {
    throw Error("a float layer needs a matrix of F32, F16 or BF16, not {} {}", name_of(weight.dtype),
                to_string(weight.shape));
  }
  n_ = weight.shape[0];
  k_ = weight.shape[1];
  weight_ = {weight.dtype, weight.data, k_};
}

KernelInfo FloatLinear::info() const {
  return {fmt::format("f32 x {}", name_of(weight_.dtype)), std::string(name_of(kernels_.isa)),
          static_cast<int>(8 * size_of(weight_.dtype)), 32};
}

void FloatLinear::prepare_row(const float* x, int64_t t, CpuInput& input) const {
  float* to = input.float_row(t);
  if (x != to) std::memcpy(to, x, static_cast<size_t>(k_) * sizeof(float));
}

void FloatLinear::forward(const CpuInput& input, int64_t m, float* y, bool accumulate) const {
  assert(m <= input.m() && input.width() == k_);
  const int64_t panels = round_up(n_, kPanel) / kPanel;
  for_each_tile(m, panels, [&](int64_t token, int64_t count, int64_t panel) {
    alignas(64) float out[kTokenBlock * kPanel];
    const int64_t first = panel * kPanel, columns = std::min(kPanel, n_ - first);
    kernels_.float_panel(input.floats().from(token), count, weight_.from(first), columns, k_, out, kPanel);
    for (int64_t t = 0; t < count; ++t) {
      float* row = y + (token + t) * n_ + first;
      for (int64_t i = 0; i < columns; ++i) {
        const float value =
            out[t * kPanel + i] + (bias_.empty() ? 0.0f : bias_[static_cast<size_t>(first + i)]);
        row[i] = accumulate ? row[i] + value : value;
      }
    }
  });
}

void FloatLinear::copy_row(int64_t index, float* out) const {
  assert(index >= 0 && index < n_);
  kernels_.to_float(weight_.from(index), k_, out);
}

}  // namespace tessera
