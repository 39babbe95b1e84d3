// A checkpoint of random weights.
#include "tessera/bench/random_model.h"

#include <algorithm>
#include <list>
#include <map>

#include "tessera/arch/model_spec.h"
#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/format/quantization_config.h"

namespace tessera {
namespace {

/// Collects the tensors of a model; those of the first block serve all others.
class RandomModel {
 public:
  RandomModel(const ModelSpec& spec, GemmFormat format, bool lm_head_w8a8) : spec_(spec), format_(format) {
    add(spec.embedding, {spec.vocab_size, spec.hidden_size});
    if (lm_head_w8a8) {
      add_codes(linears_.emplace_back(
                    random_layer(GemmFormat::kW8A8, spec.vocab_size, spec.hidden_size, /*seed=*/99)),
                kLmHead);
    } else if (!spec.tied_embeddings) {
      add(spec.lm_head, {spec.vocab_size, spec.hidden_size});
    }
    if (spec.positions == Positions::kLearned) {
      add(spec.position_embedding, {spec.max_positions + spec.position_offset, spec.hidden_size});
    }
    if (!spec.embedding_norm.empty()) add_norm(spec.embedding_norm, spec.hidden_size);
    add_norm(spec.final_norm, spec.hidden_size);
    for (NormId id : spec.existing_norms()) {
      for (int64_t layer = 0; layer < spec.n_layers; ++layer) {
        add_norm(spec.norm_name(layer, id), spec.norm_width(id));
      }
    }
    for (LinearId id : spec.linear_ids()) add_linear(id);
  }

  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  const ActivationFormat& activation() const { return activation_; }

 private:
  const Tensor& random(const Shape& shape) {
    return owned_.emplace_back(
        random_float_weights(DType::kBF16, 1, shape[0], shape.size() > 1 ? shape[1] : 1));
  }
  void add(const std::string& name, const Shape& shape) {
    TensorView view = random(shape).view();
    view.shape = shape;
    tensors_.push_back({name, view});
  }
  void add_norm(const std::string& name, int64_t width) {
    add(name + ".weight", {width});
    if (spec_.norm == NormKind::kLayer) add(name + ".bias", {width});
  }

  void add_codes(const QuantizedLinear& linear, const std::string& name) {
    for (NamedTensor& tensor : named_tensors(linear, name)) tensors_.push_back(std::move(tensor));
  }

  void add_linear(LinearId id) {
    const LinearSpec& shape = spec_.linears[id];
    if (is_float(format_) && !shape.fused.name.empty()) {
      throw Error(
          "{} stores several linears as one, which random float weights do not; choose an integer format",
          spec_.family);
    }
    if (is_float(format_)) {
      const TensorView weight = random({shape.n, shape.k}).view(), bias = random({shape.n, 1}).view();
      for (int64_t layer = 0; layer < spec_.n_layers; ++layer) {
        tensors_.push_back({spec_.linear_name(layer, id) + ".weight", weight});
        if (!shape.bias) continue;
        tensors_.push_back({spec_.linear_name(layer, id) + ".bias", {bias.dtype, {shape.n}, bias.data}});
      }
      return;
    }
    QuantizedLinear& linear = linears_.emplace_back(random_layer(format_, shape.n, shape.k, id));
    if (shape.bias) linear.bias = Tensor(DType::kF32, {shape.n});
    share_outliers(id, linear);
    activation_ = linear.activation;
    for (int64_t layer = 0; layer < spec_.n_layers; ++layer) add_codes(linear, spec_.linear_name(layer, id));
  }

  /// Outlier columns are those of an input, so that all its readers have the same, as in models by QUIK.
  void share_outliers(LinearId id, QuantizedLinear& linear) {
    if (linear.outlier_index.empty()) return;
    const auto site = std::ranges::find_if(
        spec_.sites, [&](const Site& s) { return std::ranges::find(s.readers, id) != s.readers.end(); });
    const Tensor& shared = *outliers_.try_emplace(site->readers.front(), &linear.outlier_index).first->second;
    if (&shared == &linear.outlier_index) return;
    linear.outlier_index = Tensor::from<int32_t>(shared.as<int32_t>(), shared.shape());
  }

  const ModelSpec& spec_;
  GemmFormat format_;
  std::list<Tensor> owned_;
  std::list<QuantizedLinear> linears_;
  std::map<LinearId, const Tensor*> outliers_;  ///< by the first reader of a site
  ActivationFormat activation_;
  std::vector<NamedTensor> tensors_;
};

}  // namespace

void write_random_model(const std::filesystem::path& config, GemmFormat format,
                        const std::filesystem::path& folder, bool lm_head_w8a8) {
  const auto dir = std::filesystem::is_directory(config) ? config : config.parent_path();
  const ModelConfig given = ModelConfig::load(dir.empty() ? "." : dir);
  if (given.has("quantization_config")) {
    throw Error("{}: is that of a quantized model; name its folder, or a float model's config", given.file());
  }
  const ModelSpec spec = make_model_spec(given);
  const RandomModel model(spec, format, lm_head_w8a8);
  nlohmann::json values = given.values();
  if (!is_float(format) || lm_head_w8a8) {
    QuantizationConfig section{.activation = model.activation(), .recipe = nlohmann::json::object()};
    if (lm_head_w8a8) section.overrides[kLmHead] = {};
    values["quantization_config"] = section.to_json();
  }
  if (lm_head_w8a8) values["tie_word_embeddings"] = false;
  std::filesystem::create_directories(folder);
  write_file(folder / "config.json", values.dump(2));
  write_safetensors(folder / "model.safetensors", model.tensors());
}

}  // namespace tessera
