// A pass changes one decoder block: it folds a scale, rotates, or quantizes. A method is a list of passes
// (recipe.h).
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/format/quantized_linear.h"
#include "tessera/quant/block.h"
#include "tessera/quant/scheme.h"

namespace tessera {

/// The parameters outside the blocks, float32; a pass that changes the residual stream's basis changes them,
/// too.
struct OuterWeights {
  at::Tensor embedding;           ///< [vocab, hidden]
  at::Tensor position_embedding;  ///< [positions, hidden]; undefined unless the family learns positions
  at::Tensor embedding_gain, embedding_bias;  ///< [hidden]; undefined without a norm behind the embedding
  at::Tensor final_gain;                      ///< [hidden]
  at::Tensor final_bias;                      ///< [hidden]; undefined for RMSNorm
  at::Tensor lm_head;       ///< [vocab, hidden]; a copy of the embedding when the checkpoint ties them
  at::Tensor lm_head_bias;  ///< [vocab]; undefined where there is none
};

/// The state of one block while its passes run.
struct BlockContext {
  const ModelSpec& spec;
  int64_t layer;
  std::array<LinearScheme, kLinearCount> schemes;  ///< of the linears that exist

  /// Inputs of this block [windows, tokens, hidden]: `x_float` as the float model produces them, `x_quant` as
  /// the blocks already quantized do (weights and activations quantized).
  const at::Tensor& x_float;
  const at::Tensor& x_quant;

  Block block;  ///< float parameters; passes transform them in place, keeping the block's function
  /// Set by the pass that quantizes: the linears' final integer form.
  std::array<std::optional<QuantizedLinear>, kLinearCount> quantized;
  nlohmann::json report;  ///< one object a block: passes add what they chose and what it cost
  Reporter& reporter;
};

/// One step of a recipe. Options come from JSON; an unknown option is an Error. Deterministic for a given
/// seed.
class Pass {
 public:
  virtual ~Pass() = default;
  virtual std::string name() const = 0;
  /// Called once, before the first block.
  virtual void run_on_outer(const ModelSpec& /*spec*/, OuterWeights& /*outer*/) {}
  virtual void run_on_block(BlockContext& context) = 0;
  /// True when run_on_outer unties embedding and lm_head (rotation).
  virtual bool unties_embedding() const { return false; }
  /// Most bytes that run_on_block holds beside the block's float weights, its quantized linears and the two
  /// streams of `windows` x `tokens` calibration tokens.
  virtual size_t workspace_bytes(const ModelSpec& /*spec*/, int64_t /*windows*/, int64_t /*tokens*/) const {
    return 0;
  }
};

/// Makes the pass that {"pass": NAME, option: value, ...} describes.
/// Throws Error naming the unknown pass or option and listing the known ones.
std::unique_ptr<Pass> make_pass(const nlohmann::json& step);

}  // namespace tessera
