// Float layers: the product cut into tiles.
#include "tessera/kernels/cpu/float_linear.h"

#include <cassert>

#include "tessera/base/error.h"
#include "tessera/kernels/cpu/blocking.h"
#include "tessera/kernels/cpu/isa.h"

namespace tessera {
namespace {

/// Panels [k][kPanel] of weight [n, k]; outputs that a last panel lacks have zeros.
template <class T>
AlignedBytes pack(const T* weight, int64_t n, int64_t k) {
  const int64_t panels = round_up(n, kPanel) / kPanel;
  AlignedBytes packed = AlignedBytes::uninitialized(static_cast<size_t>(panels * k * kPanel) * sizeof(T));
  T* out = reinterpret_cast<T*>(packed.data());
  parallel_for(panels, [&](int64_t panel) {
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t o = 0; o < kPanel; ++o) {
        const int64_t row = panel * kPanel + o;
        out[(panel * k + i) * kPanel + o] = row < n ? weight[row * k + i] : T{};
      }
    }
  });
  return packed;
}

AlignedBytes pack(const TensorView& weight) {
  const int64_t n = weight.shape[0], k = weight.shape[1];
  return weight.dtype == DType::kF32 ? pack(reinterpret_cast<const uint32_t*>(weight.data), n, k)
                                     : pack(reinterpret_cast<const uint16_t*>(weight.data), n, k);
}

}  // namespace

FloatLinear::FloatLinear(std::span<const FloatWeight> parts, SumOrder order, const CpuKernels& kernels)
    : kernels_(kernels) {
  for (const auto& [weight, bias] : parts) {
    if (!is_parameter_type(weight.dtype) || weight.shape.size() != 2) {
      throw Error("a float layer needs a matrix of F32, F16 or BF16, not {} {}", name_of(weight.dtype),
                  to_string(weight.shape));
    }
    assert(k_ == 0 || k_ == weight.shape[1]);
    k_ = weight.shape[1];
    const int64_t n = weight.shape[0];
    Part& part = parts_.emplace_back(
        Part{{}, {}, n_, n, panels_, std::vector<float>(bias.begin(), bias.end()), nullptr});
    if (order == SumOrder::kFixed) {
      part.packed = pack(weight);
      part.weight = {weight.dtype, part.packed.data(), kPanel};
    } else {
      part.weight = {weight.dtype, weight.data, k_};
      part.owner = weight.owner;
    }
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
  if (part.is_packed()) {
    kernels_.packed_float_panel(part.weight.from(panel * k_), x, count, k_, sums);
  } else {
    kernels_.float_panel(x, count, part.weight.from(first), columns, k_, sums, kPanel);
  }
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
  const Part& part = parts_[0];
  assert(index >= 0 && index < part.n);
  if (!part.is_packed()) return kernels_.to_float(part.weight.from(index), k_, out);
  const StoredMatrix panel = part.weight.from(index / kPanel * k_);
  for (int64_t i = 0; i < k_; ++i) {
    float row[kPanel];
    kernels_.to_float(panel.from(i), kPanel, row);
    out[i] = row[index % kPanel];
  }
}

}  // namespace tessera
