// From a checkpoint to kernels, site by site.
#include "tessera/model/weights.h"

#include <algorithm>
#include <cmath>

namespace tessera {
namespace {

class WeightLoader {
 public:
  WeightLoader(const ModelSpec& spec, const Checkpoint& checkpoint,
               const std::optional<QuantizationConfig>& quantization, Backend& backend)
      : spec_(spec), checkpoint_(checkpoint), quantization_(quantization), backend_(backend) {}

  ModelWeights load() {
    check_tensors(spec_, checkpoint_);
    check_overrides();
    weights_.embedding = backend_.load(checkpoint_.at(spec_.embedding), {});
    if (spec_.positions == Positions::kLearned) {
      weights_.position_embedding = backend_.load(checkpoint_.at(spec_.position_embedding), {});
    }
    if (!spec_.embedding_norm.empty()) weights_.embedding_norm = norm(spec_.embedding_norm);
    if (spec_.positions == Positions::kAlibi) weights_.alibi_slopes = to_device(spec_.alibi_slopes);
    for (int64_t layer = 0; layer < spec_.n_layers; ++layer) weights_.blocks.push_back(block(layer));
    weights_.final_norm = norm(spec_.final_norm);
    load_lm_head();
    return std::move(weights_);
  }

 private:
  /// A misspelt name would silently leave a layer in the wrong format.
  void check_overrides() {
    if (!quantization_) return;
    for (const auto& [name, format] : quantization_->overrides) {
      const auto is_named = [&wanted = name](const LinearSpec& linear) {
        return linear.name.substr(linear.name.rfind('.') + 1) == wanted;
      };
      if (std::none_of(spec_.linears.begin(), spec_.linears.end(), is_named)) {
        throw Error(
            "{}: config.json: activation_overrides names '{}', which is no linear layer of this model",
            checkpoint_.dir().string(), name);
      }
    }
  }

  BlockWeights block(int64_t layer) {
    BlockWeights block;
    for (NormId id : spec_.existing_norms()) block.norms[id] = norm(spec_.norm_name(layer, id));
    for (const Site& site : spec_.sites) load_site(layer, site, block);
    return block;
  }

  std::unique_ptr<Buffer> to_device(const std::vector<float>& values) {
    auto buffer = backend_.allocate(values.size() * sizeof(float));
    backend_.upload(*buffer, std::as_bytes(std::span(values)));
    return buffer;
  }

  std::vector<float> finite_vector(const std::string& name) {
    return finite_vector(checkpoint_.at(name), name);
  }

  std::vector<float> finite_vector(const TensorView& tensor, const std::string& name) {
    std::vector<float> values = to_floats(tensor);
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
      throw Error("{}: {} holds a value that is not finite; the checkpoint is damaged",
                  checkpoint_.dir().string(), name);
    }
    return values;
  }

  NormWeights norm(const std::string& name) {
    NormWeights weights;
    weights.layer_norm = spec_.norm == NormKind::kLayer;
    weights.eps = spec_.norm_eps;
    weights.gain = to_device(finite_vector(name + ".weight"));
    if (weights.layer_norm) weights.bias = to_device(finite_vector(name + ".bias"));
    return weights;
  }

  void load_lm_head() {
    const TensorView& head = checkpoint_.at(spec_.lm_head);
    const bool bias = checkpoint_.contains(spec_.lm_head_bias());
    if (!spec_.tied_embeddings) {
      weights_.untied_lm_head =
          backend_.load(head, bias ? finite_vector(spec_.lm_head_bias()) : std::vector<float>());
    }
    record(spec_.lm_head.substr(0, spec_.lm_head.rfind(".weight")), weights_.lm_head(), head.bytes());
  }

  void load_site(int64_t layer, const Site& site, BlockWeights& block) {
    bool first = true;
    std::optional<QuantizedLinear> before;  // empty: floats
    for (LinearId id : site.readers) {
      const std::string name = spec_.linear_name(layer, id);
      std::optional<QuantizedLinear> linear;
      if (is_quantized(checkpoint_, name)) {
        linear = quantized_linear(name, spec_.linears[id]);
        block.linears[id] = backend_.load(*linear);
        weights_.max_input_width = std::max(weights_.max_input_width, linear->k);
        record(name, *block.linears[id], linear->bytes());
      } else {
        block.linears[id] = float_linear(layer, id);
      }
      const bool shared = before && linear ? same_input(*before, *linear) : !before && !linear;
      block.own_input[id] = first || !shared;
      before = std::move(linear);
      first = false;
    }
  }

  std::unique_ptr<Linear> float_linear(int64_t layer, LinearId id) {
    LinearTensor weight = linear_weight(checkpoint_, spec_, layer, id);
    size_t bytes = weight.view().bytes();
    std::vector<float> bias;
    if (spec_.linears[id].bias) {
      const LinearTensor stored = linear_bias(checkpoint_, spec_, layer, id);
      bias = finite_vector(stored.view(), spec_.source_name(layer, id) + ".bias");
      bytes += stored.view().bytes();
    }
    auto linear = backend_.load(weight.view(), bias);
    record(spec_.linear_name(layer, id), *linear, bytes);
    if (weight.is_gathered()) weights_.gathered.push_back(std::move(weight));
    return linear;
  }

  QuantizedLinear quantized_linear(const std::string& name, const LinearSpec& shape) {
    if (!quantization_) {
      throw Error("{}: {} is quantized, but config.json has no quantization_config",
                  checkpoint_.dir().string(), name);
    }
    QuantizedLinear linear =
        load_quantized_linear(checkpoint_, name, quantization_->activation_of(name), shape.n, shape.k);
    if (shape.bias && linear.bias.empty()) {
      throw Error("{}: {}.bias is missing", checkpoint_.dir().string(), name);
    }
    return linear;
  }

  void record(const std::string& name, const Linear& linear, size_t bytes) {
    weights_.linears.push_back({name, linear.n(), linear.k_in(), bytes, linear.info()});
    weights_.max_input_width = std::max(weights_.max_input_width, linear.k_in());
  }

  const ModelSpec& spec_;
  const Checkpoint& checkpoint_;
  const std::optional<QuantizationConfig>& quantization_;
  Backend& backend_;
  ModelWeights weights_;
};

}  // namespace

ModelWeights load_weights(const ModelSpec& spec, const Checkpoint& checkpoint,
                          const std::optional<QuantizationConfig>& quantization, Backend& backend) {
  return WeightLoader(spec, checkpoint, quantization, backend).load();
}

}  // namespace tessera
