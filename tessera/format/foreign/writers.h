// Quantized linears as other tools store them. One file a tool; writers.cc lists them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tessera/format/quantized_linear.h"

namespace tessera::foreign {

struct WriteOptions {
  bool round = false;        ///< a number that the format cannot hold is rounded to the nearest that it can
  int64_t group_size = 0;    ///< of the output, a divisor of the layer's own; 0: the layer's own
  std::string variant = {};  ///< of the format, such as "bf16" of "hf:bf16"
};

/// What rounding changed.
struct Rounding {
  int64_t changed = 0;  ///< scales, offsets or weights
  double largest = 0;   ///< relative change
};

/// A linear in another tool's form.
struct WrittenLinear {
  std::vector<std::pair<std::string, Tensor>> tensors = {};  ///< by their last name, such as "qweight"
  nlohmann::json scheme = nullptr;                           ///< what the tool's settings say of such layers
  std::string form = {};                                     ///< in short, for tables: "4 bits g128"
  Rounding rounding = {};
};

/// A linear of the model, as the settings of the whole name it.
struct LinearScheme {
  std::string name;                 ///< "model.layers.0.mlp.up_proj"
  nlohmann::json scheme = nullptr;  ///< null: it stays in floats
};

/// A target of `tessera convert`.
struct Writer {
  const char* name;
  const char* summary;
  std::vector<std::string> variants = {};  ///< the first is the default; none: empty

  /// The real weights of `linear`, which must be valid, in this form. `where` opens errors. Throws Error when
  /// the form has no place for a part of the layer, or a number is none of the form's and must not be
  /// rounded.
  WrittenLinear (*write)(const QuantizedLinear& linear, const std::string& where,
                         const WriteOptions& options);
  /// The "quantization_config" of a model with these linears; null where the form has none. Throws Error when
  /// it cannot say what they need. Null: the form is no Hugging Face folder.
  nlohmann::json (*config)(const std::vector<LinearScheme>& linears) = nullptr;
  /// Settings that are repeated in quantize_config.json.
  bool own_settings_file = false;
  bool float_head = false;  ///< the tool's models have no codes of lm_head

  bool folder() const { return config != nullptr; }
};

/// The writer that `target` names, NAME or NAME:VARIANT, and the variant. Throws Error, listing all, for
/// another name.
std::pair<const Writer*, std::string> find_writer(const std::string& target);

/// Name and summary of every writer, a line each.
std::string list_writers();

WrittenLinear write_awq(const QuantizedLinear& linear, const std::string& where, const WriteOptions& options);
nlohmann::json awq_config(const std::vector<LinearScheme>& linears);

WrittenLinear write_compressed_tensors(const QuantizedLinear& linear, const std::string& where,
                                       const WriteOptions& options);
nlohmann::json compressed_tensors_config(const std::vector<LinearScheme>& linears);

/// Zero points less one, as AutoGPTQ; and as they are.
WrittenLinear write_gptq(const QuantizedLinear& linear, const std::string& where,
                         const WriteOptions& options);
nlohmann::json gptq_config(const std::vector<LinearScheme>& linears);
WrittenLinear write_gptq_v2(const QuantizedLinear& linear, const std::string& where,
                            const WriteOptions& options);
nlohmann::json gptq_v2_config(const std::vector<LinearScheme>& linears);

WrittenLinear write_qqq(const QuantizedLinear& linear, const std::string& where, const WriteOptions& options);
nlohmann::json qqq_config(const std::vector<LinearScheme>& linears);

/// GGUF blocks: one tensor "weight", U8 [N, bytes of a row], or [N, K] floats; the scheme is the type's name.
WrittenLinear write_gguf(const QuantizedLinear& linear, const std::string& where,
                         const WriteOptions& options);

/// Floats: "weight" [N, K].
WrittenLinear write_floats(const QuantizedLinear& linear, const std::string& where,
                           const WriteOptions& options);
nlohmann::json float_config(const std::vector<LinearScheme>& linears);

/// Our own form.
WrittenLinear write_tessera(const QuantizedLinear& linear, const std::string& where,
                            const WriteOptions& options);
nlohmann::json tessera_config(const std::vector<LinearScheme>& linears);

}  // namespace tessera::foreign
