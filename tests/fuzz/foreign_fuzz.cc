// Quantized linears of every layout: the first line is a "quantization_config", the rest a safetensors file.
#include <unistd.h>

#include "hostile_input.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/reference.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

/// A model folder whose weights are the file that file_of() makes.
fs::path folder_of(std::string_view weights) {
  static const fs::path folder = [&] {
    const fs::path path = fs::temp_directory_path() / fmt::format("tessera_foreign_fuzz_{}", getpid());
    fs::create_directories(path);
    fs::create_symlink(file_of({}), path / "model.safetensors");
    return path;
  }();
  file_of(weights);
  return folder;
}

void read_linear(const Checkpoint& checkpoint, const std::string& prefix, const QuantizationConfig& config) {
  QuantizedLinear linear =
      config.read_linear ? config.read_linear(checkpoint, prefix) : read_tensors(checkpoint, prefix);
  linear.validate(prefix);
  dequantize(linear);
}

}  // namespace

void read_hostile_input(std::string_view input) {
  const size_t line = std::min(input.find('\n'), input.size());
  const nlohmann::json section = parse_json(input.substr(0, line), "config.json");
  const auto config = read_quantization_config({{{"quantization_config", section}}, "config.json"});
  if (!config) return;
  const Checkpoint checkpoint(folder_of(input.substr(std::min(line + 1, input.size()))));
  for (const auto& [name, info] : checkpoint.tensors()) {
    const std::string prefix = name.substr(0, name.rfind('.'));
    if (!is_quantized(checkpoint, prefix)) continue;
    try {
      read_linear(checkpoint, prefix, *config);
    } catch (const Error&) {
    }
  }
}

}  // namespace tessera
