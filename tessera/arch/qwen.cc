// Qwen2: LLaMA with biases of q, k and v. Qwen3: LLaMA with a norm of every head of q and k.
#include "tessera/arch/families.h"

namespace tessera {

ModelSpec qwen_spec(const ModelConfig& config) {
  ModelSpec s = llama_spec(config);
  if (config.get<bool>("use_sliding_window", false)) {
    const auto full_layers = config.get<int64_t>("max_window_layers", 0);  // the first ones see everything
    if (full_layers == 0) {
      s.sliding_window = config.get<int64_t>("sliding_window", 0);
    } else if (full_layers < s.n_layers) {
      throw Error("{}: a sliding window in only some layers (max_window_layers {} of {}) is not supported",
                  config.file(), full_layers, s.n_layers);
    }
  }
  if (s.family == "qwen3") {
    s.norms[kQueryNorm] = "self_attn.q_norm";
    s.norms[kKeyNorm] = "self_attn.k_norm";
  } else {
    for (LinearRole role : {kQ, kK, kV}) s.linear(role).bias = true;
  }
  return s;
}

}  // namespace tessera
