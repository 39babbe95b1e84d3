// The model that is converted, linear by linear.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tessera/arch/model_spec.h"
#include "tessera/format/quantization_config.h"
#include "tessera/source/model_files.h"

namespace tessera {

class SourceModel {
 public:
  /// A linear of a block, or an lm_head in codes.
  struct Linear {
    std::string name;  ///< "model.layers.0.mlp.up_proj"; of the tensor that holds it, where it is in floats
    int64_t layer;     ///< n_layers: lm_head
    int64_t n, k;
    bool quantized;
    bool fused_elsewhere;  ///< Hugging Face's layout of the family holds it in one tensor with others
  };

  /// `path`: a folder or a GGUF file, whose blocks become float32, which holds them exactly. Throws Error
  /// when a file is missing or malformed, or a tensor absent.
  explicit SourceModel(const std::filesystem::path& path);

  const ModelFiles& files() const { return files_; }
  const ModelConfig& config() const { return config_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const ModelSpec& spec() const { return spec_; }
  /// In order of execution.
  const std::vector<Linear>& linears() const { return linears_; }
  /// Whether another tool wrote the codes.
  bool foreign() const { return quantization_ && quantization_->read_linear; }

  /// A linear with codes. Throws Error as load_quantized_linear does.
  QuantizedLinear load(const Linear& linear) const;
  /// Names of the tensors of block `layer` that are no part of a linear with codes; n_layers: of those
  /// outside the blocks.
  std::vector<std::string> float_tensors(int64_t layer) const;
  /// How errors call a linear: the model and its name.
  std::string where(const Linear& linear) const;
  /// "tessera", "gptq", ..., "gguf" or "float".
  std::string format() const;

 private:
  ModelFiles files_;
  ModelConfig config_;
  Checkpoint checkpoint_;
  ModelSpec spec_;
  std::optional<QuantizationConfig> quantization_;
  std::vector<Linear> linears_;
  std::set<std::string> quantized_names_;
};

}  // namespace tessera
