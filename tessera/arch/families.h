// One function a model family. A new family is a new file and a line in registry.cc.
#pragma once

#include "tessera/arch/model_spec.h"

namespace tessera {

/// LLaMA 1, 2 and 3, and Mistral, which differs in its sliding window alone.
ModelSpec llama_spec(const ModelConfig& config);
/// OPT with norms in front. Throws Error for opt-350m, whose norms stand behind the sums.
ModelSpec opt_spec(const ModelConfig& config);
/// Qwen2 and Qwen3. Throws Error when only some of the layers have a sliding window.
ModelSpec qwen_spec(const ModelConfig& config);
/// Falcon with rotary positions. Throws Error for falcon-rw, which uses ALiBi.
ModelSpec falcon_spec(const ModelConfig& config);
ModelSpec bloom_spec(const ModelConfig& config);

/// An extent of config.json that may be absent. Throws Error when it is there and no positive integer.
int64_t extent_or(const ModelConfig& config, const char* key, int64_t fallback);

/// The sites of a block, in order of execution, from the spec's linears, norms and `parallel`. In a parallel
/// block without a norm of its own for the MLP, all linears that read a norm read the first site.
std::vector<Site> sites_of(const ModelSpec& spec);

}  // namespace tessera
