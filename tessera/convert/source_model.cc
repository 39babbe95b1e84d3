// SourceModel.
#include "tessera/convert/source_model.h"

#include "tessera/format/load_linear.h"

namespace tessera {

SourceModel::SourceModel(const std::filesystem::path& path)
    : files_(path),
      config_(ModelConfig::load(path)),
      checkpoint_(path, DType::kF32),
      spec_(make_model_spec(config_, checkpoint_)),
      quantization_(read_quantization_config(config_)) {
  check_tensors(spec_, checkpoint_);
  for (int64_t layer = 0; layer < spec_.n_layers; ++layer) {
    for (LinearId id : spec_.linear_ids()) {
      const std::string name = spec_.linear_name(layer, id), stored = spec_.source_name(layer, id);
      const bool quantized = is_quantized(checkpoint_, name);
      if (quantized && !quantization_)
        throw Error("{}: holds codes, but config.json has no quantization_config", name);
      linears_.push_back({quantized ? name : stored, layer, spec_.linears[id].n, spec_.linears[id].k,
                          quantized, name != stored});
    }
  }
  if (const std::string head = spec_.lm_head_name(); is_quantized(checkpoint_, head))
    linears_.push_back({head, spec_.n_layers, spec_.vocab_size, spec_.hidden_size, true, false});
  for (const Linear& linear : linears_) {
    if (linear.quantized) quantized_names_.insert(linear.name);
  }
}

QuantizedLinear SourceModel::load(const Linear& linear) const {
  QuantizedLinear loaded =
      load_quantized_linear(checkpoint_, linear.name, *quantization_, linear.n, linear.k);
  checkpoint_.release_pages();  // it owns copies: the mapped pages are not needed until the next pass
  return loaded;
}

std::vector<std::string> SourceModel::float_tensors(int64_t layer) const {
  const std::string block = layer < spec_.n_layers ? spec_.block(layer) : "";
  const auto belongs = [&](const std::string& name) {
    return block.empty() ? !name.starts_with(spec_.block_prefix) : name.starts_with(block);
  };
  std::vector<std::string> names;
  for (const auto& [name, info] : checkpoint_.tensors()) {
    const std::string linear = name.substr(0, name.rfind('.'));
    if (belongs(name) && !quantized_names_.contains(linear) && name != kRopeFactors) names.push_back(name);
  }
  return names;
}

std::string SourceModel::where(const Linear& linear) const {
  return fmt::format("{}: {}", checkpoint_.dir().string(), linear.name);
}

std::string SourceModel::format() const {
  if (is_gguf(checkpoint_.dir())) return "gguf";
  const JsonNode section = config_.quantization();
  return section.is_null() ? "float" : section["quant_method"].string();
}

}  // namespace tessera
