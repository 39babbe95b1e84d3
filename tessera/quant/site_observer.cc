// Collects site inputs in one pass over the calibration tokens.
#include "tessera/quant/site_observer.h"

#include <algorithm>
#include <cassert>

#include "tessera/quant/fake_quant.h"

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
  SiteCollector(const ActivationFormat& activation, const ObserveOptions& options, int64_t total_tokens)
      : activation_(activation),
        options_(options),
        stride_(std::max<int64_t>(1, total_tokens / options.sample_tokens)) {}

  void add(const at::Tensor& input) {
    const at::Tensor x = input.reshape({-1, input.size(-1)});
    inputs_.tokens += x.size(0);
    const at::Tensor absmax = at::amax(x.abs(), {0});
    inputs_.channel_absmax =
        inputs_.channel_absmax.defined() ? at::maximum(inputs_.channel_absmax, absmax) : absmax;
    samples_.push_back(x.slice(0, 0, x.size(0), stride_).clone());
    if (!options_.hessian) return;
    if (!inputs_.hessian.defined()) inputs_.hessian = at::zeros({x.size(1), x.size(1)}, x.options());
    add_outer_products(inputs_.hessian, options_.quantized_input ? fake_quantize_rows(x, activation_) : x);
  }

  SiteInputs finish() {
    if (options_.hessian) inputs_.hessian = finish_hessian(inputs_.hessian, inputs_.tokens);
    inputs_.sample = at::cat(samples_);
    return std::move(inputs_);
  }

 private:
  ActivationFormat activation_;
  ObserveOptions options_;
  int64_t stride_;
  SiteInputs inputs_;
  std::vector<at::Tensor> samples_;
};

}  // namespace

nlohmann::json SiteInputs::statistics() const {
  const double absmax = channel_absmax.max().item<double>();
  const double median = channel_absmax.median().item<double>();
  return {{"absmax", absmax},
          {"median_channel_absmax", median},
          {"absmax_to_median", median > 0 ? absmax / median : 0.0}};
}

std::vector<SiteInputs> observe_sites(const ModelSpec& spec, const Block& block, const LinearFn& linear,
                                      const at::Tensor& x,
                                      const std::array<LinearScheme, kLinearCount>& schemes,
                                      const ObserveOptions& options) {
  std::vector<SiteCollector> collectors;
  for (const Site& site : spec.sites) {
    collectors.emplace_back(schemes[site.readers.front()].activation, options, x.size(0) * x.size(1));
  }
  const LinearFn observed = [&](LinearId id, const at::Tensor& input) {
    const size_t site = site_index(spec, id);
    if (spec.sites[site].readers.front() == id) collectors[site].add(input);
    return linear(id, input);
  };
  const int64_t windows = x.size(0), step = windows_per_chunk(x.size(1));
  for (int64_t first = 0; first < windows; first += step) {  // so that the outputs never exist together
    block_forward(spec, block, observed, x.narrow(0, first, std::min(step, windows - first)));
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
    elements += k * (sample + (options.hessian ? k : 0));
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

double output_error(const QuantizedLinear& linear, const at::Tensor& weight, const at::Tensor& x) {
  const at::Tensor exact = at::matmul(x, weight.t());
  FakeQuantLinear fake(linear, x.device());
  at::Tensor approximate = fake.forward(x);
  return ((approximate - exact).norm() / exact.norm()).item<double>();
}

}  // namespace tessera
