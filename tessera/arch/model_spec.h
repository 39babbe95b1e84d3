// ModelSpec: what a decoder-only transformer is made of, as data. Both executors, the float one that
// calibrates and the integer one that serves, interpret it; a model family is one file in this folder that
// fills it in.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tessera/format/checkpoint.h"
#include "tessera/format/model_config.h"

namespace tessera {

enum class NormKind : uint8_t { kRms, kLayer };
enum class Activation : uint8_t { kSilu, kRelu, kGelu, kGeluTanh };
enum class Positions : uint8_t { kRope, kLearned, kAlibi };

/// What a linear layer of a decoder block does. A block has one of each role, but for kGate, which only gated
/// MLPs have.
enum class LinearRole : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown };
using enum LinearRole;
/// Index into ModelSpec::linears.
enum LinearId : uint16_t {};
/// One value for every linear of a block, indexed by LinearId.
template <class T>
using PerLinear = std::vector<T>;

/// The linear that makes logits, in every family, where it is not the embedding.
inline constexpr const char* kLmHead = "lm_head";

/// The norms of a decoder block: of the residual stream in front of attention and MLP, and of every head of q
/// and k in front of the rotation (Qwen3).
enum NormId : uint8_t { kAttentionNorm, kMlpNorm, kQueryNorm, kKeyNorm, kNormCount };

/// Outputs of a linear that the checkpoint stores as one with others: rows first .. first + run - 1 of every
/// `stride` rows.
struct FusedRows {
  std::string name;  ///< of the shared linear, inside the block; empty: the linear has tensors of its own
  int64_t rows = 0;  ///< of the shared linear
  int64_t first = 0, run = 0, stride = 0;
};

/// y[N] = x[K] W[N, K]^T + bias.
struct LinearSpec {
  LinearRole role = kQ;
  std::string name;  ///< inside the block, such as "self_attn.q_proj"
  int64_t n = 0, k = 0;
  bool bias = false;
  FusedRows fused = {};  ///< in float checkpoints; quantized ones hold every linear by itself

  /// Rows of the tensor that holds this linear in a float checkpoint.
  int64_t source_rows() const { return fused.name.empty() ? n : fused.rows; }
};

/// One activation inside a block together with the linears that read it. Smoothing, outlier selection and
/// channel reassembly act on sites; the name is what reports and recipes call it.
struct Site {
  const char* name = "";          ///< "qkv", "o", "gate_up" or "up", "down"; "qkv_up" in parallel blocks
  std::vector<LinearId> readers;  ///< share the input, and so its channels
  /// Where a channel scale of the input folds into: a norm's gain (and bias), or the output rows of a linear.
  enum class Producer : uint8_t { kNorm, kLinear } producer = Producer::kNorm;
  NormId norm = kAttentionNorm;  ///< when producer is kNorm
  LinearId linear = {};          ///< when producer is kLinear
};

struct ModelSpec {
  std::string family;  ///< "llama", "mistral", ...
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, n_layers = 0;
  int64_t n_heads = 0, n_kv_heads = 0, head_dim = 0;
  int64_t max_positions = 0;
  int64_t sliding_window = 0;     ///< positions that attention sees, its own included; 0: everything before
  std::vector<bool> full_layers;  ///< [n_layers], those that see everything all the same; empty: none

  NormKind norm = NormKind::kRms;
  float norm_eps = 1e-5f;
  Activation activation = Activation::kSilu;
  bool parallel = false;  ///< attention and MLP read the same residual stream; both outputs are added to it
  Positions positions = Positions::kRope;
  RopeConfig rope;
  std::vector<float> alibi_slopes;  ///< kAlibi: [n_heads]; a score gets slope * (key - query position)

  // Tensor names. A norm is NAME.weight (and NAME.bias for kLayer), a linear NAME.weight (and NAME.bias). An
  // empty name: the family has no such tensor.
  std::string base_prefix;         ///< that checkpoints of the bare decoder lack, such as "transformer."
  std::string embedding;           ///< [vocab_size, hidden_size]
  std::string position_embedding;  ///< kLearned: [max_positions + position_offset, hidden_size]
  int64_t position_offset = 0;     ///< row of position 0 (OPT: 2)
  std::string embedding_norm;      ///< applied to the embeddings (BLOOM)
  std::string final_norm;
  std::string lm_head;  ///< [vocab_size, hidden_size]; the embedding when tied
  bool tied_embeddings = false;
  std::string block_prefix;  ///< "model.layers." + layer + "."
  std::array<std::string, kNormCount> norms;
  PerLinear<LinearSpec> linears;  ///< in order of execution
  std::vector<Site> sites;        ///< in order of execution

  /// The sliding window of a layer; 0: it sees everything before.
  int64_t window(int64_t layer) const {
    return full_layers.empty() || !full_layers[static_cast<size_t>(layer)] ? sliding_window : 0;
  }
  int64_t q_size() const { return n_heads * head_dim; }
  int64_t kv_size() const { return n_kv_heads * head_dim; }
  bool gated() const { return has(kGate); }
  std::string block(int64_t layer) const { return block_prefix + std::to_string(layer) + "."; }
  /// Full name without ".weight", such as "model.layers.3.mlp.up_proj".
  std::string linear_name(int64_t layer, LinearId id) const { return block(layer) + linears[id].name; }
  /// The same for the linear of the float checkpoint that holds it.
  std::string source_name(int64_t layer, LinearId id) const {
    const LinearSpec& linear = linears[id];
    return block(layer) + (linear.fused.name.empty() ? linear.name : linear.fused.name);
  }
  std::string norm_name(int64_t layer, NormId id) const { return block(layer) + norms[id]; }
  bool has(NormId id) const { return !norms[id].empty(); }
  bool has(LinearRole role) const;
  /// The linear of that role, which must exist.
  LinearId id(LinearRole role) const;
  LinearSpec& linear(LinearRole role) { return linears[id(role)]; }
  const LinearSpec& linear(LinearRole role) const { return linears[id(role)]; }
  LinearRole role(LinearId id) const { return linears[id].role; }
  /// Whether the site is the output of attention, which scales of v reach, or of the MLP's activation, which
  /// those of up reach.
  bool reads_attention(const Site& site) const { return reads_product_of(site, kV); }
  bool reads_mlp(const Site& site) const { return reads_product_of(site, kUp); }
  int64_t norm_width(NormId id) const { return id == kQueryNorm || id == kKeyNorm ? head_dim : hidden_size; }
  /// Bias [vocab_size] of lm_head. A float checkpoint of no family has it; a rotated one does where the final
  /// norm has a bias.
  std::string lm_head_bias() const { return lm_head_name() + ".bias"; }
  /// The linear that makes logits, such as "lm_head".
  std::string lm_head_name() const { return lm_head.substr(0, lm_head.rfind(".weight")); }
  std::vector<LinearId> linear_ids() const;
  /// Weights of all linears of a block.
  int64_t block_parameters() const;
  std::vector<NormId> existing_norms() const;

 private:
  bool reads_product_of(const Site& site, LinearRole producer) const {
    return site.producer == Site::Producer::kLinear && role(site.linear) == producer;
  }
};

/// The spec of a model folder: of its model_type, as in Transformers, or of its architecture where it names
/// no type. Throws Error for an unknown one (listing the known ones) or an inconsistent config.json.
ModelSpec make_model_spec(const ModelConfig& config);
/// The same with the tensors that `checkpoint` has: without base_prefix where it holds the bare decoder; and
/// where the embedding shall also serve as lm_head but a head of its own is stored, that head counts.
ModelSpec make_model_spec(const ModelConfig& config, const Checkpoint& checkpoint);

/// Architectures that make_model_spec knows, such as "LlamaForCausalLM".
std::vector<std::string> known_architectures();

/// Checks that every float tensor that the spec names is there with its shape, or, for a linear, its
/// quantized form. Throws Error naming the first that is not.
void check_tensors(const ModelSpec& spec, const Checkpoint& checkpoint);

}  // namespace tessera
