// Channel maxima, coarsened.
#include "tessera/quant/block/channel_profile.h"

#include <cmath>

#include "tessera/quant/block/site_observer.h"

namespace tessera {
namespace {

constexpr int64_t kBands = 256;

double four_digits(double x) {
  if (x == 0) return 0;
  const double unit = std::pow(10.0, 3 - std::floor(std::log10(std::abs(x))));
  return std::round(x * unit) / unit;
}

nlohmann::json band_maxima(const at::Tensor& channel_absmax) {
  const at::Tensor host = channel_absmax.cpu();
  const int64_t channels = host.size(0), bands = std::min(channels, kBands);
  nlohmann::json out = nlohmann::json::array();
  for (int64_t band = 0; band < bands; ++band) {
    const int64_t first = band * channels / bands, end = (band + 1) * channels / bands;
    out.push_back(four_digits(host.slice(0, first, end).max().item<double>()));
  }
  return out;
}

}  // namespace

nlohmann::json channel_profile(const ModelSpec& spec, const Block& block, const at::Tensor& x,
                               const ShownChannels& shown) {
  nlohmann::json out = nlohmann::json::object();
  const LinearFn linear = float_linears(block);
  const LinearFn observed = [&](LinearId id, const at::Tensor& input) {
    const Site& site = spec.sites[site_index(spec, id)];
    if (site.readers.front() == id) {
      const at::Tensor mapped = block.map[id].apply(input);
      out[site.name] = band_maxima(shown(id, at::amax(mapped.reshape({-1, mapped.size(-1)}).abs(), {0})));
    }
    return linear(id, input);
  };
  block_forward(spec, block, observed,
                x.narrow(0, 0, std::min(x.size(0), windows_per_chunk(x.size(1), x.device()))));
  return out;
}

}  // namespace tessera
