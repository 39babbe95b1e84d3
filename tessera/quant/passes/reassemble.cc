// Channel reassembly of the sites behind norms and of the down projection ("QLLM").
#include "tessera/quant/passes/reassembly.h"

#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/site_output.h"
#include "tessera/quant/block/token_errors.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class ReassemblePass : public Pass {
 public:
  explicit ReassemblePass(const PassOptions& options)
      : tokens_(options["tokens"].integer<int64_t>(1, int64_t{1} << 40)),
        search_{.theta = options["theta"].number(0.0, 1e30),
                .max_expansion = options["max_expansion"].number(0.0, 0.9),
                .candidates = options["candidates"].integer<int64_t>(1, 1 << 20)},
        assemble_(options["assembly"].boolean()),
        virtual_(options["virtual"].boolean()),
        metric_(options["metric"].choice<MergeMetric>(
            {{"error", MergeMetric::kError}, {"legacy", MergeMetric::kLegacy}})) {}

  std::string name() const override { return "reassemble"; }
  bool keeps_function() const override { return false; }

  void check(const PassPlace& place) const override {
    for (const Site& site : place.spec.sites) {
      const LinearId reader = site.readers.front();
      if (place.spec.role(reader) == kO) continue;
      const ActivationFormat& format = place.schemes[reader].activation;
      const std::string& linear = place.spec.linears[reader].name;
      if (!format.per_token || format.bits > 8) {
        throw Error("{}: reassembled channels need integer activations with scales per token", linear);
      }
      if (virtual_ && (layout(format).max_repeat < 2 || format.real_zero)) {
        throw Error(
            "{}: virtual copies need codes of at most 6 bits with integer zero points; set virtual to false",
            linear);
      }
    }
  }

  /// Everything is measured on the float model; sites in order of execution, each by itself.
  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    const LinearFn exact = float_linears(context.block);
    const auto inputs = observe_sites(context.spec, context.block, exact, context.x_float, context.schemes,
                                      {.sample_tokens = 1});
    std::vector<ChannelMap> maps(inputs.size());
    const LinearFn searched = [&](LinearId id, const at::Tensor& x) {
      const size_t s = site_index(context.spec, id);
      const Site& site = context.spec.sites[s];
      const bool first = id == site.readers.front();
      if (first && context.spec.role(id) != kO) maps[s] = search(context, site, inputs[s].typical_absmax, x);
      return exact(id, x);
    };
    block_step(context.spec, context.block, searched, sample_windows(context.x_float, tokens_));
    for (size_t s = 0; s < maps.size(); ++s) {
      for (LinearId id : context.spec.sites[s].readers) {
        context.block.weight[id] = maps[s].fold(context.block.weight[id]);
        context.block.map[id] = maps[s];
      }
    }
  }

  double token_passes(const ModelSpec& /*spec*/, int64_t windows, int64_t tokens) const override {
    const auto sampled = static_cast<double>(sample_count(windows, tokens, tokens_) * tokens);
    return static_cast<double>(windows * tokens) +
           static_cast<double>(search_.candidates) * (sampled / 2 + kRoundingPasses);
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t windows, int64_t tokens) const override {
    const int64_t samples = sample_count(windows, tokens, tokens_);
    size_t merge = 0;
    for (const Site& site : spec.sites) {
      int64_t outputs = 0;
      for (LinearId id : site.readers) outputs += spec.linears[id].n;
      merge = std::max(merge, merge_bytes(samples * tokens, outputs, spec.linears[site.readers.front()].k));
    }
    const double wider = assemble_ ? 0 : search_.max_expansion * static_cast<double>(rounding_bytes(spec));
    return static_cast<size_t>(wider) + observed_bytes(spec, windows, tokens, {.sample_tokens = 1}) +
           std::max(chunk_forward_bytes(spec, windows, tokens),
                    forward_bytes(spec, samples, tokens) + merge + 2 * rounding_bytes(spec));
  }

  /// Copies of columns, with their sources and gains.
  uint64_t added_disk_bytes(const PassPlace& place) const override {
    const double wider = assemble_ ? 0 : search_.max_expansion;
    double bytes = 0;
    for (LinearId id : place.spec.linear_ids()) {
      const LinearSpec& linear = place.spec.linears[id];
      bytes += static_cast<double>(linear.k) * (wider * static_cast<double>(linear.n) + 3 * sizeof(float));
    }
    return static_cast<uint64_t>(bytes);
  }

 private:
  /// Chooses the map of the site for its input x.
  ChannelMap search(BlockContext& context, const Site& site, const at::Tensor& absmax,
                    const at::Tensor& x) const {
    const ActivationFormat& format = context.schemes[site.readers.front()].activation;
    if (context.split[site.readers.front()].count > 0) {
      throw Error("{}: outlier columns keep their place, so channels cannot be reassembled, too",
                  context.spec.linear_name(context.layer, site.readers.front()));
    }
    const at::Tensor distances = assemble_ ? distances_of(context, site, x) : at::Tensor();
    const SplitSample sample = split_sample(context.spec, context.block, site, x);
    const auto loss = [&](const SiteSample& part, const ChannelMap& map) {
      const at::Tensor rows = map.repeated(fake_quantize_rows(map.apply(part.x), format));
      const LinearFn linear = [&](LinearId id, const at::Tensor& input) {
        return rounded_output(context, id, map.fold(context.block.weight[id]), input);
      };
      const at::Tensor output = site_output(context.spec, context.block, site, linear, rows);
      return weighted_error(output, part.output).item<double>();
    };
    Reassembly best = search_reassembly(absmax, distances, layout(format), search_,
                                        [&](const ChannelMap& map) { return loss(sample.seen, map); });
    const double judged = loss(sample.unseen, best.map), judged_identity = loss(sample.unseen, {});
    if (search_.theta == 0 && !(judged < judged_identity)) best.map = {};
    report_site(context, site, name(),
                {{"theta", best.theta},
                 {"absmax", absmax.max().item<double>()},
                 {"split_channels", best.split_channels},
                 {"added_columns", best.added_columns},
                 {"expansion", static_cast<double>(best.added_columns) / static_cast<double>(absmax.size(0))},
                 {"loss", best.loss},
                 {"loss_identity", best.identity_loss},
                 {"judged", judged},
                 {"judged_identity", judged_identity},
                 {"kept", !best.map.identity()},
                 {"evaluations", best.evaluations}});
    return std::move(best.map);
  }

  at::Tensor distances_of(const BlockContext& context, const Site& site, const at::Tensor& x) const {
    std::vector<at::Tensor> weights;
    for (LinearId id : site.readers) weights.push_back(context.block.weight[id]);
    return merge_distances(weighted_tokens(x.reshape({-1, x.size(-1)})), at::cat(weights), metric_);
  }

  /// Codes of a virtually split channel count several times; what they reach must fit int8.
  ReassemblyLayout layout(const ActivationFormat& format) const {
    const int64_t codes = format.symmetric ? (1 << (format.bits - 1)) - 1 : (1 << format.bits) - 1;
    return {.assemble = assemble_, .max_repeat = virtual_ ? 127 / codes : 1};
  }

  int64_t tokens_;
  ThetaSearch search_;
  bool assemble_, virtual_;
  MergeMetric metric_;
};

}  // namespace

PassInfo reassemble_pass_info() {
  return {"reassemble",
          "splits loud input channels into copies and merges similar quiet ones",
          {{"tokens", 1024},        // calibration tokens that the search uses, beside all for the maxima
           {"max_expansion", 0.2},  // copies, relative to the channels
           {"candidates", 24},      // thresholds that are tried, of those that split differently
           {"theta", 0.0},          // a fixed threshold in units of the median channel maximum; 0: search
           {"assembly", true},      // false: the layer becomes wider instead of merging channels
           {"virtual", false},      // copies of a channel share one column where int8 has room for their sum
           {"metric", "error"}}};   // of merges: error | legacy (the authors' program)
}

std::unique_ptr<Pass> make_reassemble_pass(const PassOptions& options) {
  return std::make_unique<ReassemblePass>(options);
}

}  // namespace tessera
