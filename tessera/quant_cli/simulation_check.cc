// Layer by layer comparison of the three implementations of QuantizedLinear.
#include "tessera/quant_cli/simulation_check.h"

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/format/reference.h"
#include "tessera/quant/run/fake_quant_model.h"

namespace tessera {
namespace {

constexpr int64_t kTokens = 17;  ///< more than one tile of every kernel, and odd

int64_t count_differing(const QuantizedLinear& linear, const at::Tensor& rows,
                        const std::vector<int32_t>& accumulators) {
  const at::Tensor simulated = FakeQuantLinear(linear, at::kCPU).accumulators(rows).contiguous();
  const auto* values = simulated.data_ptr<int64_t>();
  int64_t differing = 0;
  for (size_t i = 0; i < accumulators.size(); ++i) differing += accumulators[i] != values[i];
  return differing;
}

void check_layer(const std::string& name, const QuantizedLinear& linear, const at::Tensor& x,
                 Backend& backend, SimulationCheck& check) {
  const at::Tensor all = x.reshape({-1, x.size(-1)});
  const at::Tensor rows = all.narrow(0, 0, std::min(kTokens, all.size(0))).contiguous();
  const std::span<const float> values(rows.data_ptr<float>(), static_cast<size_t>(rows.numel()));
  const int64_t m = rows.size(0), off_before = check.kernels.outputs_off;
  std::vector<float> expected(static_cast<size_t>(m * linear.n));
  std::vector<int32_t> accumulators;
  const bool integer = !linear.activation.weight_only();
  reference_forward(linear, values, m, expected, integer ? &accumulators : nullptr);
  const int64_t differing = integer ? count_differing(linear, rows, accumulators) : 0;
  check_kernel(name, linear, values, m, expected, backend, check.kernels);
  check.accumulators += static_cast<int64_t>(accumulators.size());
  check.differing += differing;
  const bool any = differing > 0 || check.kernels.outputs_off > off_before;
  if (any && check.first_differing.empty()) check.first_differing = name;
}

}  // namespace

SimulationCheck check_simulation(const std::filesystem::path& dir, const std::vector<int32_t>& window,
                                 Backend& backend) {
  SimulationCheck check;
  const std::vector<std::vector<int32_t>> windows = {window};
  window_nll(dir, windows, "cpu",
             [&](const std::string& name, const QuantizedLinear& linear, const at::Tensor& x) {
               check_layer(name, linear, x, backend, check);
             });
  if (check.kernels.layers == 0)
    throw Error("{}: has no quantized layers; name the output of tessera quantize", dir.string());
  return check;
}

}  // namespace tessera
