// Outputs of sites and samples of windows.
#include "tessera/quant/block/site_output.h"

#include <algorithm>

namespace tessera {

int64_t sample_count(int64_t windows, int64_t tokens, int64_t wanted) {
  return std::clamp<int64_t>(wanted / tokens, 1, windows);
}

at::Tensor sample_windows(const at::Tensor& x, int64_t wanted) {
  const int64_t count = sample_count(x.size(0), x.size(1), wanted);
  return x.slice(0, 0, x.size(0), x.size(0) / count).narrow(0, 0, count);
}

at::Tensor site_output(const ModelSpec& spec, const Block& block, const Site& site, const LinearFn& linear,
                       const at::Tensor& x) {
  const auto reads = [&](LinearRole role) {
    return spec.has(role) && std::ranges::find(site.readers, spec.id(role)) != site.readers.end();
  };
  const auto output = [&](LinearRole role) { return linear(spec.id(role), x); };
  std::vector<at::Tensor> outputs;
  if (reads(kQ)) outputs.push_back(attention_core(spec, block, output(kQ), output(kK), output(kV)));
  if (reads(kUp)) outputs.push_back(mlp_core(spec, reads(kGate) ? output(kGate) : at::Tensor(), output(kUp)));
  return outputs.empty() ? linear(site.readers.front(), x) : at::cat(outputs, -1);
}

SplitSample split_sample(const ModelSpec& spec, const Block& block, const Site& site, const at::Tensor& x) {
  const int64_t windows = x.size(0), step = std::min<int64_t>(windows, 2);
  const auto sample = [&](int64_t first) {
    const at::Tensor part = x.slice(0, first, windows, step);
    return SiteSample{part, site_output(spec, block, site, float_linears(block), part)};
  };
  return {sample(0), sample(step - 1)};
}

}  // namespace tessera
