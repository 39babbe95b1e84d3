// Selects the input channels that stay in floating point ("QUIK").
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class OutliersPass : public Pass {
 public:
  explicit OutliersPass(const PassOptions& options)
      : rule_{.count = options["count"].integer<int64_t>(0, 1 << 20),
              .max_share = options["max_share"].number(0.0, 0.9),
              .alignment = options["alignment"].integer<int64_t>(1, 1 << 12)},
        threshold_(options["threshold"].number(0.0, 1e30)) {}

  std::string name() const override { return "outliers"; }

  /// Channel maxima are those of the float model.
  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    const auto inputs = observe_sites(context.spec, context.block, float_linears(context.block),
                                      context.x_float, context.schemes, {.sample_tokens = 1});
    for (size_t s = 0; s < inputs.size(); ++s) {
      const Site& site = context.spec.sites[s];
      const at::Tensor& absmax = inputs[s].channel_absmax;
      const OutlierSplit split = split_outliers(absmax, count(context, site, absmax));
      for (LinearId id : site.readers) context.split[id] = split;
      nlohmann::json report = inputs[s].statistics();
      report["outliers"] = split.count;
      report["quantized_absmax"] = split.base_columns(absmax).max().item<double>();
      report_site(context, site, name(), std::move(report));
    }
  }

  double token_passes(const ModelSpec& /*spec*/, int64_t windows, int64_t tokens) const override {
    return static_cast<double>(windows * tokens);
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    return observed_bytes(spec, windows, tokens, {.sample_tokens = 1}) +
           chunk_forward_bytes(spec, windows, tokens);
  }

  /// Half-precision columns in place of codes.
  uint64_t added_disk_bytes(const PassPlace& place) const override {
    int64_t bytes = 0;
    for (LinearId id : place.spec.linear_ids()) {
      const LinearSpec& linear = place.spec.linears[id];
      const int64_t columns =
          outlier_count(rule_, linear.k, place.spec.hidden_size, place.schemes[id].weight.group_size);
      bytes +=
          columns * (linear.n * static_cast<int64_t>(sizeof(Half)) + static_cast<int64_t>(sizeof(int32_t)));
    }
    return static_cast<uint64_t>(bytes);
  }

 private:
  /// F of the site; the threshold is doubled where activations have 8 bits ("QUIK", zero-outlier layers).
  int64_t count(const BlockContext& context, const Site& site, const at::Tensor& absmax) const {
    const LinearScheme& scheme = context.schemes[site.readers.front()];
    const double threshold = scheme.activation.bits == 8 ? 2 * threshold_ : threshold_;
    if (absmax.max().item<double>() <= threshold) return 0;
    return outlier_count(rule_, absmax.size(0), context.spec.hidden_size, scheme.weight.group_size);
  }

  OutlierRule rule_;
  double threshold_;
};

}  // namespace

PassInfo outliers_pass_info() {
  return {"outliers",
          "keeps the loudest input channels of every linear in half precision",
          {{"count", 256},         // at inputs as wide as the residual stream; others in proportion
           {"max_share", 0.0625},  // of the channels: limits `count` in small models
           {"alignment", 64},      // quantized columns are a multiple of it (16 below 2048 columns)
           {"threshold", 0.0}}};   // no outliers where no input exceeds it (twice that for 8-bit inputs)
}

std::unique_ptr<Pass> make_outliers_pass(const PassOptions& options) {
  return std::make_unique<OutliersPass>(options);
}

}  // namespace tessera
