// The integer layers of a quantized checkpoint, one by one: reference, fake quantization and kernels must
// agree to the last bit of the accumulator. Test code only.
#pragma once

#include <gtest/gtest.h>

#include "tessera/format/reference.h"
#include "tessera/kernels/backend.h"
#include "tessera/quant/fake_quant_model.h"

namespace tessera {

/// Output of a layer as the device computes it.
inline std::vector<float> kernel_output(Backend& backend, const QuantizedLinear& linear,
                                        std::span<const float> x, int64_t m) {
  const auto weights = backend.load(linear);
  const auto input = backend.make_input(m, std::max(linear.k, static_cast<int64_t>(x.size()) / m));
  const auto x_device = backend.allocate(x.size_bytes());
  backend.upload(*x_device, std::as_bytes(x));
  const auto y_device = backend.allocate(static_cast<size_t>(m * linear.n) * sizeof(float));
  backend.prepare(x_device->floats(), m, *weights, *input);
  backend.linear(*weights, *input, m, y_device->floats(), /*accumulate=*/false);
  std::vector<float> y(static_cast<size_t>(m * linear.n));
  backend.download(y_device->floats(), y);
  return y;
}

/// Compares every linear of the model in `dir` on inputs of its own, those of `window`; returns their number.
inline int64_t expect_equal_accumulators(const std::filesystem::path& dir, const std::vector<int32_t>& window,
                                         Backend& backend) {
  const std::vector<std::vector<int32_t>> windows = {window};
  int64_t layers = 0;
  window_nll(
      dir, windows, "cpu", [&](const std::string& name, const QuantizedLinear& linear, const at::Tensor& x) {
        const at::Tensor rows = x.reshape({-1, x.size(-1)}).narrow(0, 0, 17).contiguous();
        const std::span<const float> values(rows.data_ptr<float>(), static_cast<size_t>(rows.numel()));
        const int64_t m = rows.size(0);
        std::vector<float> expected(static_cast<size_t>(m * linear.n));
        std::vector<int32_t> accumulators;
        reference_forward(linear, values, m, expected, &accumulators);
        const at::Tensor simulated = FakeQuantLinear(linear, at::kCPU).accumulators(rows).contiguous();
        EXPECT_TRUE(std::equal(accumulators.begin(), accumulators.end(), simulated.data_ptr<int64_t>()))
            << name;
        // Scaled in the defined order, equal outputs mean equal accumulators; sums over float columns may
        // come in another order.
        const std::vector<float> output = kernel_output(backend, linear, values, m);
        if (linear.outlier_index.empty()) {
          EXPECT_EQ(output, expected) << name;
        } else {
          const float largest = *std::max_element(expected.begin(), expected.end());
          for (size_t i = 0; i < output.size(); ++i)
            ASSERT_NEAR(output[i], expected[i], 1e-5 * largest) << name;
        }
        ++layers;
      });
  return layers;
}

}  // namespace tessera
