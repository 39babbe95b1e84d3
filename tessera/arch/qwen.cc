// Qwen2: LLaMA with biases of q, k and v. Qwen3: LLaMA with a norm of every head of q and k.
#include <algorithm>

#include "tessera/arch/families.h"

namespace tessera {
namespace {

/// Which layers see everything, where the others see `s.sliding_window` positions: those that layer_types
/// says, or the first max_window_layers.
std::vector<bool> full_layers(const ModelConfig& config, const ModelSpec& s) {
  constexpr int64_t kMostLayers = 1 << 16;  // they are listed before any tensor is seen
  if (s.n_layers > kMostLayers)
    throw Error("{}: {} layers; at most {}", config.file(), s.n_layers, kMostLayers);
  std::vector<bool> full;
  const JsonNode types = config.root()["layer_types"];
  if (types.is_null()) {
    const auto first = config.get<int64_t>("max_window_layers", 28);
    for (int64_t layer = 0; layer < s.n_layers; ++layer) full.push_back(layer < first);
    return full;
  }
  for (const JsonNode& type : types.items())
    full.push_back(type.choice<bool>({{"full_attention", true}, {"sliding_attention", false}}));
  if (std::ssize(full) != s.n_layers) types.fail("{} types for {} layers", full.size(), s.n_layers);
  return full;
}

void read_window(const ModelConfig& config, ModelSpec& s) {
  const bool used = config.get<bool>("use_sliding_window", false);
  const int64_t window = config.states("sliding_window") ? config.get<int64_t>("sliding_window", 0) : 4096;
  if (window < 0) throw Error("{}: sliding_window {} is negative", config.file(), window);
  if (!used && !config.has("layer_types")) return;
  const std::vector<bool> full = full_layers(config, s);
  if (std::ranges::find(full, false) == full.end()) return;
  if (used && window > 0) {
    s.sliding_window = window;
    if (std::ranges::find(full, true) != full.end()) s.full_layers = full;
  } else if (!used) {
    throw Error("{}: layer_types asks for sliding attention, but there is no window (use_sliding_window)",
                config.file());
  }
}

}  // namespace

ModelSpec qwen_spec(const ModelConfig& config) {
  ModelSpec s = llama_spec(config);
  read_window(config, s);
  if (s.family == "qwen3") {
    s.norms[kQueryNorm] = "self_attn.q_norm";
    s.norms[kKeyNorm] = "self_attn.k_norm";
  } else {
    for (LinearRole role : {kQ, kK, kV}) s.linear(role).bias = true;
  }
  return s;
}

}  // namespace tessera
