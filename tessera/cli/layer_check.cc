// Layer by layer comparison of the three implementations of QuantizedLinear.
#include "tessera/cli/layer_check.h"

#include <algorithm>
#include <cmath>

#include "tessera/base/error.h"
#include "tessera/format/reference.h"
#include "tessera/quant/fake_quant_model.h"

namespace tessera {
namespace {

constexpr int64_t kTokens = 17;  ///< more than one tile of every kernel, and odd
constexpr float kFloatError = 1e-5f;

/// Output of a layer as the device computes it.
std::vector<float> kernel_output(Backend& backend, const QuantizedLinear& linear, std::span<const float> x,
                                 int64_t m) {
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

/// Scaled in the defined order, equal outputs mean equal accumulators; sums over floats may come in another
/// order.
int64_t count_off(const QuantizedLinear& linear, const std::vector<float>& y,
                  const std::vector<float>& expected) {
  const bool exact = !linear.activation.weight_only() && linear.outlier_index.empty();
  float largest = 0;
  for (float value : expected) largest = std::max(largest, std::fabs(value));
  const float tolerance = exact ? 0 : kFloatError * largest;
  int64_t off = 0;
  for (size_t i = 0; i < y.size(); ++i) off += !(std::fabs(y[i] - expected[i]) <= tolerance);
  return off;
}

int64_t count_differing(const QuantizedLinear& linear, const at::Tensor& rows,
                        const std::vector<int32_t>& accumulators) {
  const at::Tensor simulated = FakeQuantLinear(linear, at::kCPU).accumulators(rows).contiguous();
  const auto* values = simulated.data_ptr<int64_t>();
  int64_t differing = 0;
  for (size_t i = 0; i < accumulators.size(); ++i) differing += accumulators[i] != values[i];
  return differing;
}

void check_layer(const std::string& name, const QuantizedLinear& linear, const at::Tensor& x,
                 Backend& backend, LayerCheck& check) {
  const at::Tensor all = x.reshape({-1, x.size(-1)});
  const at::Tensor rows = all.narrow(0, 0, std::min(kTokens, all.size(0))).contiguous();
  const std::span<const float> values(rows.data_ptr<float>(), static_cast<size_t>(rows.numel()));
  const int64_t m = rows.size(0);
  std::vector<float> expected(static_cast<size_t>(m * linear.n));
  std::vector<int32_t> accumulators;
  const bool integer = !linear.activation.weight_only();
  reference_forward(linear, values, m, expected, integer ? &accumulators : nullptr);
  const int64_t differing = integer ? count_differing(linear, rows, accumulators) : 0;
  const int64_t off = count_off(linear, kernel_output(backend, linear, values, m), expected);
  ++check.layers;
  check.accumulators += static_cast<int64_t>(accumulators.size());
  check.outputs += static_cast<int64_t>(expected.size());
  check.differing += differing;
  check.outputs_off += off;
  if (differing + off > 0 && check.first_differing.empty()) check.first_differing = name;
}

}  // namespace

LayerCheck check_layers(const std::filesystem::path& dir, const std::vector<int32_t>& window,
                        Backend& backend) {
  LayerCheck check;
  const std::vector<std::vector<int32_t>> windows = {window};
  window_nll(dir, windows, "cpu",
             [&](const std::string& name, const QuantizedLinear& linear, const at::Tensor& x) {
               check_layer(name, linear, x, backend, check);
             });
  if (check.layers == 0)
    throw Error("{}: has no quantized layers; name the output of tessera quantize", dir.string());
  return check;
}

}  // namespace tessera
