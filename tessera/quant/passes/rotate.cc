// Rotation of the residual stream and of the value heads.
#include "tessera/quant/passes/rotation.h"

#include "tessera/quant/block/fold.h"
#include "tessera/quant/block/hadamard.h"
#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

class RotatePass : public Pass {
 public:
  explicit RotatePass(const PassOptions& options)
      : seed_(options["seed"].integer<uint64_t>()),
        hadamard_(options["matrix"].choice<bool>({{"hadamard", true}, {"random", false}})),
        value_heads_(options["value_heads"].boolean()) {}

  std::string name() const override { return "rotate"; }
  bool unties_embedding() const override { return true; }

  void check(const PassPlace& place) const override {
    if (place.spec.embedding_norm.empty()) return;
    throw Error("the rotation cannot pass the norm behind the embedding of {} models; use smoothing",
                place.spec.family);
  }

  void run_on_outer(const ModelSpec& spec, OuterWeights& outer) override {
    rotate_outer(outer, rotation(spec, outer.embedding.device()));
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t /*windows*/, int64_t tokens) const override {
    return observed_bytes(spec, 1, tokens, {}) +
           std::max(chunk_forward_bytes(spec, 1, tokens), 2 * rounding_bytes(spec));
  }

  /// The streams are rotated already, since the embedding is; the block's weights are not yet.
  void run_on_block(BlockContext& context) override {
    const PassTimer timer(context, name());
    const ModelSpec& spec = context.spec;
    const at::Tensor x = context.x_quant.narrow(0, 0, 1);
    const at::Tensor q = rotation(spec, x.device());
    const at::Tensor unrotated = at::matmul(x.to(at::kDouble), q.t()).to(at::kFloat);
    report_inputs(context, unrotated, "before");
    const at::Tensor reference = block_step(spec, context.block, float_linears(context.block), unrotated);

    rotate_block(spec, context.block, q);
    if (value_heads_) {
      rotate_value_heads(spec, context.block,
                         random_rotation(spec.head_dim, seed_, hadamard_).to(x.device()));
    }
    report_inputs(context, x, "after");
    const at::Tensor rotated = block_step(spec, context.block, float_linears(context.block), x);
    const at::Tensor difference = rotated - at::matmul(reference.to(at::kDouble), q).to(at::kFloat);
    context.report["rotate"]["block_difference"] = (difference.norm() / rotated.norm()).item<double>();
  }

 private:
  const at::Tensor& rotation(const ModelSpec& spec, const at::Device& device) {
    if (!rotation_.defined()) rotation_ = stream_rotation(spec, seed_, hadamard_).to(device);
    return rotation_;
  }

  /// Outliers of the sites, and what rounding to nearest costs, on one window.
  void report_inputs(BlockContext& context, const at::Tensor& x, const std::string& when) const {
    const auto inputs =
        observe_sites(context.spec, context.block, float_linears(context.block), x, context.schemes, {});
    for (size_t s = 0; s < inputs.size(); ++s) {
      const Site& site = context.spec.sites[s];
      report_site(context, site, name(), {{when, inputs[s].statistics()}});
      for (LinearId id : site.readers) {
        const QuantizedLinear rounded = round_to_nearest(context, id, inputs[s]);
        report_linear(context, id, name(),
                      {{"error_" + when, output_error(rounded, context.block, id, inputs[s].sample)}});
      }
    }
  }

  uint64_t seed_;
  bool hadamard_, value_heads_;
  at::Tensor rotation_;
};

}  // namespace

PassInfo rotate_pass_info() {
  return {"rotate",
          "rotates the residual stream and value heads so that no channel stands out",
          {{"seed", 0},              // of the signs, or of the random matrix
           {"matrix", "hadamard"},   // hadamard (random for sizes without one, and for LayerNorm) | random
           {"value_heads", true}}};  // also between v_proj and o_proj, by head
}

std::unique_ptr<Pass> make_rotate_pass(const PassOptions& options) {
  return std::make_unique<RotatePass>(options);
}

}  // namespace tessera
