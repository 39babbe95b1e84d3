// Collects site inputs in one pass over the calibration tokens.
#include "tessera/quant/block/site_observer.h"

#include <algorithm>
#include <cassert>

#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/token_errors.h"

namespace tessera {
namespace {

/// A Hessian is symmetric: bands of rows compute only their part right of the diagonal.
constexpr int64_t kHessianBands = 4;

void add_outer_products(at::Tensor& hessian, const at::Tensor& x) {
  const int64_t k = x.size(1), band = (k + kHessianBands - 1) / kHessianBands;
  for (int64_t begin = 0; begin < k; begin += band) {
    const int64_t rows = std::min(band, k - begin);
    hessian.narrow(0, begin, rows)
        .narrow(1, begin, k - begin)
        .addmm_(x.narrow(1, begin, rows).t(), x.narrow(1, begin, k - begin));
  }
}

/// Mean over the tokens, both triangles.
at::Tensor finish_hessian(const at::Tensor& upper, int64_t tokens) {
  const at::Tensor strict = at::triu(upper, 1);
  return (at::triu(upper) + strict.t()).mul_(2.0 / static_cast<double>(tokens));
}

class SiteCollector {
 public:
  /// `input_scale`: the static scale of the codes, where quantized inputs are asked for.
  SiteCollector(const ActivationFormat& activation, const ObserveOptions& options, int64_t windows,
                int64_t tokens, float input_scale)
      : activation_(activation),
        options_(options),
        windows_(windows),
        stride_(std::max<int64_t>(1, windows * tokens / options.sample_tokens)),
        input_scale_(input_scale) {}

  /// input [some windows, tokens, K in front of the map]
  void add(const ChannelMap& map, const at::Tensor& input) {
    const at::Tensor x = map.apply(input), rows = input.reshape({-1, input.size(-1)});
    window_absmax_.push_back(at::amax(x.abs(), {1}));
    typical_absmax_.push_back(tessera::typical_absmax(x));
    samples_.push_back(rows.slice(0, 0, rows.size(0), stride_).clone());
    windows_ -= x.size(0);
    if (!options_.hessian) return;
    const at::Tensor exact = reference_.defined() ? map.apply(std::exchange(reference_, {})) : x;
    const auto flat = [](const at::Tensor& t) { return t.reshape({-1, t.size(-1)}); };
    if (!options_.last_window) {
      add_moments(map, flat(x), flat(exact));
    } else if (windows_ == 0) {
      add_moments(map, x[x.size(0) - 1], exact[x.size(0) - 1]);
    }
  }

  /// What the site receives in the float model where the next input comes.
  void expect(const at::Tensor& reference) { reference_ = reference; }

  SiteInputs finish() {
    const at::Tensor window_absmax = at::cat(window_absmax_);
    inputs_.channel_absmax = at::amax(window_absmax, {0});
    inputs_.typical_absmax = at::amax(at::stack(typical_absmax_), {0});
    inputs_.static_scale = static_scale(activation_, window_absmax, options_.static_quantile);
    if (options_.hessian) inputs_.hessian = finish_hessian(inputs_.hessian, tokens_);
    if (inputs_.cross.defined()) inputs_.cross.mul_(2.0 / static_cast<double>(tokens_));
    inputs_.sample = at::cat(samples_);
    return std::move(inputs_);
  }

 private:
  /// mapped [S, K]; exact [S, K]: what the float model has there
  void add_moments(const ChannelMap& map, const at::Tensor& mapped, const at::Tensor& exact) {
    const at::Tensor weight = token_weights(mapped).sqrt_();
    const auto rows = [&](const at::Tensor& values) { return map.repeated(values) * weight; };
    const at::Tensor seen =
        rows(options_.quantized_input ? fake_quantize_rows(mapped, activation_, input_scale_) : mapped);
    const auto start = [&](at::Tensor& sum) {
      if (!sum.defined()) sum = at::zeros({seen.size(1), seen.size(1)}, seen.options());
    };
    tokens_ += seen.size(0);
    start(inputs_.hessian);
    add_outer_products(inputs_.hessian, seen);
    if (!options_.cross) return;
    start(inputs_.cross);
    inputs_.cross.addmm_(seen.t(), seen - rows(exact));
  }

  ActivationFormat activation_;
  ObserveOptions options_;
  int64_t windows_;  ///< still to come
  int64_t stride_;
  float input_scale_;
  int64_t tokens_ = 0;  ///< in the moments
  SiteInputs inputs_;
  at::Tensor reference_;
  std::vector<at::Tensor> window_absmax_, typical_absmax_, samples_;
};

}  // namespace

nlohmann::json outlier_statistics(const at::Tensor& channel_absmax) {
  const double absmax = channel_absmax.max().item<double>();
  const double median = channel_absmax.median().item<double>();
  return {{"absmax", absmax},
          {"median_channel_absmax", median},
          {"absmax_to_median", median > 0 ? absmax / median : 0.0}};
}

float static_scale(const ActivationFormat& format, const at::Tensor& window_absmax, double quantile) {
  if (format.per_token) return 0;
  const at::Tensor channels = at::quantile(window_absmax, quantile, 0);
  const float absmax = channels.max().item<float>();
  return (absmax > 0 ? absmax : 1) / static_cast<float>((1 << (format.bits - 1)) - 1);
}

std::vector<SiteInputs> observe_sites(const ModelSpec& spec, const Block& block, const LinearFn& linear,
                                      const at::Tensor& x, const PerLinear<LinearScheme>& schemes,
                                      const ObserveOptions& options, const at::Tensor& reference) {
  const auto format = [&](const Site& site) { return schemes[site.readers.front()].activation; };
  std::vector<float> scales(spec.sites.size(), 0);
  if (options.quantized_input &&
      std::ranges::any_of(spec.sites, [&](const Site& s) { return !format(s).per_token; })) {
    // Rounding inputs takes their scales, and those take all inputs.
    const auto ranges = observe_sites(spec, block, linear, x, schemes,
                                      {.static_quantile = options.static_quantile, .sample_tokens = 1});
    std::ranges::transform(ranges, scales.begin(), &SiteInputs::static_scale);
  }
  std::vector<SiteCollector> collectors;
  for (size_t s = 0; s < spec.sites.size(); ++s) {
    collectors.emplace_back(format(spec.sites[s]), options, x.size(0), x.size(1), scales[s]);
  }
  /// The linears of `function`, `visit` called with the input of every site.
  const auto observed = [&](const LinearFn& function, const auto& visit) -> LinearFn {
    return [&](LinearId id, const at::Tensor& input) {
      const size_t site = site_index(spec, id);
      if (spec.sites[site].readers.front() == id) visit(collectors[site], block.map[id], input);
      return function(id, input);
    };
  };
  const LinearFn exact = float_linears(block);
  const LinearFn expecting = observed(
      exact, [](SiteCollector& site, const ChannelMap&, const at::Tensor& input) { site.expect(input); });
  const LinearFn adding = observed(linear, [](SiteCollector& site, const ChannelMap& map,
                                              const at::Tensor& input) { site.add(map, input); });
  const int64_t windows = x.size(0), step = windows_per_chunk(x.size(1), x.device());
  for (int64_t first = 0; first < windows; first += step) {  // so that the outputs never exist together
    const int64_t count = std::min(step, windows - first);
    if (reference.defined()) block_forward(spec, block, expecting, reference.narrow(0, first, count));
    block_forward(spec, block, adding, x.narrow(0, first, count));
  }
  std::vector<SiteInputs> inputs;
  for (SiteCollector& collector : collectors) inputs.push_back(collector.finish());
  return inputs;
}

size_t observed_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens, const ObserveOptions& options) {
  const int64_t total = windows * tokens,
                sample = total / std::max<int64_t>(1, total / options.sample_tokens);
  int64_t elements = 0;
  for (const Site& site : spec.sites) {
    const int64_t k = spec.linears[site.readers.front()].k;
    elements += k * (sample + windows + (options.hessian ? k : 0) + (options.cross ? k : 0));
  }
  return static_cast<size_t>(elements) * sizeof(float);
}

size_t site_index(const ModelSpec& spec, LinearId id) {
  for (size_t i = 0; i < spec.sites.size(); ++i) {
    const auto& readers = spec.sites[i].readers;
    if (std::find(readers.begin(), readers.end(), id) != readers.end()) return i;
  }
  assert(false && "every linear has a site");
  return 0;
}

double output_error(const QuantizedLinear& linear, const Block& block, LinearId id, const at::Tensor& x) {
  const at::Tensor exact = float_linears(block)(id, x);
  FakeQuantLinear fake(linear, x.device());
  return token_errors(fake.forward(x), exact).median().item<double>();
}

}  // namespace tessera
