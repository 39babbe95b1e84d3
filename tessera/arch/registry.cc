// From config.json to a spec, and the check that a checkpoint fits it.
#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "tessera/arch/families.h"
#include "tessera/arch/rope.h"
#include "tessera/format/load_linear.h"

namespace tessera {
namespace {

struct Family {
  const char *model_type, *prefix;  ///< of its classes: "Llama" of LlamaForCausalLM, LlamaModel, ...
  ModelSpec (*make)(const ModelConfig&);
};

constexpr Family kFamilies[] = {{"llama", "Llama", llama_spec},
                                {"mistral", "Mistral", llama_spec},
                                {"opt", "OPT", opt_spec},
                                {"qwen2", "Qwen2", qwen_spec},
                                {"qwen3", "Qwen3", qwen_spec},
                                {"falcon", "Falcon", falcon_spec},
                                {"RefinedWebModel", "RW", falcon_spec},
                                {"RefinedWeb", "RW", falcon_spec},
                                {"bloom", "Bloom", bloom_spec}};

std::string architecture_of(const Family& family) {
  return std::string(family.prefix) + "ForCausalLM";
}

/// The family of the model_type, which any class of a known family may go with; without a type that of the
/// class.
const Family& family_of(const ModelConfig& config) {
  const std::string type = config.get<std::string>("model_type", ""), architecture = config.architecture();
  const bool known_class = std::ranges::any_of(
      kFamilies, [&](const Family& family) { return architecture.starts_with(family.prefix); });
  for (const Family& family : kFamilies) {
    if (type.empty() ? architecture == architecture_of(family)
                     : type == family.model_type && (architecture.empty() || known_class))
      return family;
  }
  throw Error("{}: model_type '{}' with architecture '{}' is not supported (known: {})", config.file(), type,
              architecture, fmt::join(known_architectures(), ", "));
}

/// Whether two tensors hold the same values in the same type.
bool are_equal(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.shape == b.shape && std::memcmp(a.data, b.data, a.bytes()) == 0;
}

/// "lm_head" of "lm_head.weight".
std::string linear_of(const std::string& weight) {
  return weight.substr(0, weight.rfind(".weight"));
}

/// As Transformers ties: not where both are stored and differ. Where the head alone is stored it is the
/// embedding, too.
void tie_embeddings(ModelSpec& s, const Checkpoint& checkpoint, const std::string& head) {
  const bool codes = is_quantized(checkpoint, linear_of(head));
  if (!s.tied_embeddings || !(checkpoint.contains(head) || codes)) return;
  if (!checkpoint.contains(s.embedding)) {
    s.embedding = s.lm_head = head;
  } else if (codes || !are_equal(checkpoint.at(s.embedding), checkpoint.at(head))) {
    s.tied_embeddings = false;
    s.lm_head = head;
  }
}

void check_consistency(const ModelSpec& s, const std::string& file) {
  if (s.n_kv_heads < 1 || s.n_heads % s.n_kv_heads != 0) {
    throw Error("{}: {} attention heads cannot share {} key-value heads", file, s.n_heads, s.n_kv_heads);
  }
  if (s.head_dim < 2 || s.head_dim % 2 != 0) {
    throw Error("{}: head dimension {} is not a positive even number", file, s.head_dim);
  }
}

/// GGUF files hold the divisors of LLaMA 3's frequencies: they must be those that `spec.rope` stands for.
void check_rope_factors(const ModelSpec& s, const Checkpoint& checkpoint) {
  constexpr double kTolerance = 1e-4;  // the writers compute in float32
  const std::vector<float> factors = to_floats(checkpoint.at(kRopeFactors, {s.head_dim / 2}));
  const std::vector<double> scaled = rope_frequencies(s.rope, s.head_dim),
                            plain = rope_frequencies({.theta = s.rope.theta}, s.head_dim);
  for (size_t i = 0; i < factors.size(); ++i) {
    if (std::abs(factors[i] * scaled[i] / plain[i] - 1) < kTolerance) continue;
    throw Error("{}: {}: {} is {}, LLaMA 3's scaling by {} gives {}; other scalings are not supported",
                checkpoint.dir().string(), kRopeFactors, i, factors[i], s.rope.factor, plain[i] / scaled[i]);
  }
}

}  // namespace

int64_t extent_or(const ModelConfig& config, const char* key, int64_t fallback) {
  return config.has(key) ? config.extent(key) : fallback;
}

bool ModelSpec::has(LinearRole role) const {
  return std::ranges::find(linears, role, &LinearSpec::role) != linears.end();
}

LinearId ModelSpec::id(LinearRole role) const {
  const auto found = std::ranges::find(linears, role, &LinearSpec::role);
  assert(found != linears.end());
  return static_cast<LinearId>(found - linears.begin());
}

std::vector<LinearId> ModelSpec::linear_ids() const {
  std::vector<LinearId> ids;
  for (size_t i = 0; i < linears.size(); ++i) ids.push_back(static_cast<LinearId>(i));
  return ids;
}

int64_t ModelSpec::block_parameters() const {
  int64_t parameters = 0;
  for (const LinearSpec& linear : linears) parameters += linear.n * linear.k;
  return parameters;
}

std::vector<NormId> ModelSpec::existing_norms() const {
  std::vector<NormId> ids;
  for (uint8_t id = 0; id < kNormCount; ++id) {
    if (has(NormId{id})) ids.push_back(NormId{id});
  }
  return ids;
}

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) {
    if (std::string name = architecture_of(family); names.empty() || names.back() != name)
      names.push_back(std::move(name));
  }
  return names;
}

ModelSpec make_model_spec(const ModelConfig& config) {
  const Family& family = family_of(config);
  nlohmann::json values = config.values();
  values["model_type"] = family.model_type;  // an older config.json may name the class alone
  ModelSpec spec = family.make({std::move(values), config.file()});
  check_consistency(spec, config.file());
  return spec;
}

ModelSpec make_model_spec(const ModelConfig& config, const Checkpoint& checkpoint) {
  ModelSpec s = make_model_spec(config);
  const auto bare = [&](const std::string& name) {
    return name.starts_with(s.base_prefix) ? name.substr(s.base_prefix.size()) : name;
  };
  if (!checkpoint.contains(s.embedding) && checkpoint.contains(bare(s.embedding))) {
    for (std::string* name : {&s.embedding, &s.position_embedding, &s.embedding_norm, &s.final_norm,
                              &s.lm_head, &s.block_prefix}) {
      *name = bare(*name);
    }
  }
  tie_embeddings(s, checkpoint, "lm_head.weight");
  return s;
}

void check_tensors(const ModelSpec& s, const Checkpoint& checkpoint) {
  const auto refuse_codes = [&](const std::string& linear) {
    if (is_quantized(checkpoint, linear)) {
      throw Error(
          "{}: {} is quantized; codes are read for lm_head, and linears of blocks with tensors of their own",
          checkpoint.dir().string(), linear);
    }
  };
  const auto floats = [&](const std::string& name, const Shape& shape) {
    const DType dtype = checkpoint.info(name, shape).dtype;
    if (!is_parameter_type(dtype)) {
      throw Error("{}: tensor {} is {}, expected F32, F16 or BF16", checkpoint.dir().string(), name,
                  name_of(dtype));
    }
  };
  refuse_codes(linear_of(s.embedding));
  if (checkpoint.contains(kRopeFactors)) check_rope_factors(s, checkpoint);
  floats(s.embedding, {s.vocab_size, s.hidden_size});
  if (!is_quantized(checkpoint, s.lm_head_name())) floats(s.lm_head, {s.vocab_size, s.hidden_size});
  if (checkpoint.contains(s.lm_head_bias())) floats(s.lm_head_bias(), {s.vocab_size});
  if (s.positions == Positions::kLearned) {
    floats(s.position_embedding, {s.max_positions + s.position_offset, s.hidden_size});
  }
  const auto check_norm = [&](const std::string& name, int64_t width) {
    floats(name + ".weight", {width});
    if (s.norm == NormKind::kLayer) floats(name + ".bias", {width});
  };
  if (!s.embedding_norm.empty()) check_norm(s.embedding_norm, s.hidden_size);
  check_norm(s.final_norm, s.hidden_size);
  for (int64_t layer = 0; layer < s.n_layers; ++layer) {
    for (NormId id : s.existing_norms()) check_norm(s.norm_name(layer, id), s.norm_width(id));
    for (LinearId id : s.linear_ids()) {
      if (is_quantized(checkpoint, s.linear_name(layer, id))) continue;  // load_quantized_linear checks it
      const LinearSpec& linear = s.linears[id];
      const std::string name = s.source_name(layer, id);
      refuse_codes(name);
      if (checkpoint.contains(name + ".weight_scale")) {
        throw Error("{}: {}.weight_scale is there, but {}.weight holds no codes (I8)",
                    checkpoint.dir().string(), name, name);
      }
      floats(name + ".weight", {linear.source_rows(), linear.k});
      if (linear.bias) floats(name + ".bias", {linear.source_rows()});
    }
  }
}

}  // namespace tessera
