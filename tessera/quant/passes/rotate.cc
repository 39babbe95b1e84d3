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
        matrix_(options["matrix"].choice<Matrix>({{"hadamard", Matrix::kHadamard},
                                                  {"random", Matrix::kRandom},
                                                  {"principal", Matrix::kPrincipal}})),
        apart_(options["apart"].integer<int64_t>(0, 1 << 20)),
        value_heads_(options["value_heads"].boolean()) {}

  std::string name() const override { return "rotate"; }
  bool unties_embedding() const override { return true; }
  bool surveys() const override { return matrix_ == Matrix::kPrincipal; }

  void check(const PassPlace& place) const override {
    if (!place.spec.embedding_norm.empty()) {
      throw Error("the rotation cannot pass the norm behind the embedding of {} models; use smoothing",
                  place.spec.family);
    }
    if (matrix_ == Matrix::kPrincipal && place.spec.norm == NormKind::kLayer) {
      throw Error(
          "principal directions do not keep the mean that the LayerNorm of {} models takes; use --set "
          "rotate=off, or --set rotate.matrix=random",
          place.spec.family);
    }
  }

  /// Second moments of the normalized stream, so that tokens count alike.
  void survey_block(const ModelSpec& spec, const at::Tensor& x) override {
    const at::Tensor ones = at::ones({spec.hidden_size}, x.options());
    for (int64_t i = 0; i < x.size(0); ++i) {
      const at::Tensor tokens = normalize(spec, x[i], ones, {}).to(at::kDouble);
      const at::Tensor moments = at::matmul(tokens.t(), tokens);
      moments_ = moments_.defined() ? moments_ + moments : moments;
    }
  }

  void run_on_outer(const ModelSpec& spec, OuterWeights& outer) override {
    rotate_outer(outer, rotation(spec, outer.embedding.device()));
  }

  double token_passes(const ModelSpec& /*spec*/, int64_t /*windows*/, int64_t tokens) const override {
    return 4.0 * static_cast<double>(tokens);  // one window, before and after, observed and compared
  }

  size_t workspace_bytes(const ModelSpec& spec, int64_t /*windows*/, int64_t tokens) const override {
    constexpr int64_t kMatrices = 6;  // moments, directions and what finding these takes
    const auto decomposition =
        static_cast<size_t>(kMatrices * spec.hidden_size * spec.hidden_size) * sizeof(double);
    const size_t on_block = observed_bytes(spec, 1, tokens, {}) +
                            std::max(chunk_forward_bytes(spec, 1, tokens), 2 * rounding_bytes(spec));
    return surveys() ? std::max(decomposition, on_block) : on_block;
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
                         random_rotation(spec.head_dim, seed_, matrix_ != Matrix::kRandom).to(x.device()));
    }
    report_inputs(context, x, "after");
    const at::Tensor rotated = block_step(spec, context.block, float_linears(context.block), x);
    const at::Tensor difference = rotated - at::matmul(reference.to(at::kDouble), q).to(at::kFloat);
    context.report["rotate"]["block_difference"] = (difference.norm() / rotated.norm()).item<double>();
  }

 private:
  enum class Matrix { kHadamard, kRandom, kPrincipal };

  const at::Tensor& rotation(const ModelSpec& spec, const at::Device& device) {
    if (rotation_.defined()) return rotation_;
    constexpr int64_t kLeastMixed = 16;  // so many channels are mixed for every one that is not
    rotation_ = matrix_ == Matrix::kPrincipal
                    ? principal_rotation(moments_, std::min(apart_, spec.hidden_size / kLeastMixed), seed_)
                    : stream_rotation(spec, seed_, matrix_ == Matrix::kHadamard).to(device);
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
  Matrix matrix_;
  int64_t apart_;
  bool value_heads_;
  at::Tensor moments_;  ///< [hidden, hidden], of the survey
  at::Tensor rotation_;
};

}  // namespace

PassInfo rotate_pass_info() {
  return {"rotate",
          "rotates the residual stream and value heads so that no channel stands out",
          {{"seed", 0},              // of the signs, or of the random matrix
           {"matrix", "hadamard"},   // hadamard (random for sizes without one, and for LayerNorm) | random |
                                     // principal: the stream's main directions become the first channels
           {"apart", 256},           // of these, at most a sixteenth of all; the others are mixed
           {"value_heads", true}}};  // also between v_proj and o_proj, by head
}

std::unique_ptr<Pass> make_rotate_pass(const PassOptions& options) {
  return std::make_unique<RotatePass>(options);
}

}  // namespace tessera
