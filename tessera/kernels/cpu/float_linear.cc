// Float layers: the product cut into tiles.
#include "tessera/kernels/cpu/float_linear.h"

#include <cassert>

#include "tessera/base/error.h"
#include "tessera/kernels/cpu/blocking.h"
#include "tessera/kernels/cpu/isa.h"

namespace tessera {

FloatLinear::FloatLinear(std::span<const FloatWeight> parts, SumOrder order, const CpuKernels& kernels)
    : kernels_(kernels), fixed_order_(order == SumOrder::kFixed) {
  for (const auto& [weight, bias] : parts) {
    if (!is_parameter_type(weight.dtype) || weight.shape.size() != 2) {
      throw Error("a float layer needs a matrix of F32, F16 or BF16, not {} {}", name_of(weight.dtype),
                  to_string(weight.shape));
    }
    assert(k_ == 0 || k_ == weight.shape[1]);
    k_ = weight.shape[1];
    const int64_t n = weight.shape[0];
    parts_.push_back({{weight.dtype, weight.data, k_},
                      n_,
                      n,
                      panels_,
                      std::vector<float>(bias.begin(), bias.end()),
                      weight.owner});
    n_ += n;
    panels_ += round_up(n, kPanel) / kPanel;
  }
}

KernelInfo FloatLinear::info() const {
  const DType dtype = parts_[0].weight.dtype;
  return {fmt::format("f32 x {}", name_of(dtype)), std::string(name_of(kernels_.isa)),
          static_cast<int>(8 * size_of(dtype)), 32};
}

void FloatLinear::forward(const CpuInput& input, const Rows& out, bool accumulate) const {
  assert(out.count <= input.m() && input.width() == k_);
  for_each_tile(out.count, panels_, [&](int64_t token, int64_t count, int64_t panel) {
    const auto part =
        std::find_if(parts_.rbegin(), parts_.rend(), [&](const Part& p) { return p.first_panel <= panel; });
    panel_forward(*part, panel - part->first_panel, input.floats().from(token), count, out, token,
                  accumulate);
  });
}

void FloatLinear::panel_forward(const Part& part, int64_t panel, const FloatRows& x, int64_t count,
                                const Rows& out, int64_t token, bool accumulate) const {
  alignas(64) float sums[kTokenBlock * kPanel];
  const int64_t first = panel * kPanel, columns = std::min(kPanel, part.n - first);
  kernels_.float_panel(x, count, part.weight.from(first), columns, k_, fixed_order_, sums, kPanel);
  for (int64_t t = 0; t < count; ++t) {
    float* row = out.floats(token + t) + part.first + first;
    for (int64_t i = 0; i < columns; ++i) {
      const float bias = part.bias.empty() ? 0.0f : part.bias[static_cast<size_t>(first + i)];
      const float value = sums[t * kPanel + i] + bias;
      row[i] = accumulate ? row[i] + value : value;
    }
  }
}

void FloatLinear::copy_row(int64_t index, float* out) const {
  assert(index >= 0 && index < parts_[0].n);
  kernels_.to_float(parts_[0].weight.from(index), k_, out);
}

}  // namespace tessera
