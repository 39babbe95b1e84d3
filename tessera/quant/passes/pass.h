// A pass changes a decoder block, or a few consecutive ones together: it folds a scale, rotates, trains a
// correction, or quantizes. A method is a list of passes (recipe.h).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/format/quantized_linear.h"
#include "tessera/quant/block/block.h"
#include "tessera/quant/block/outer_weights.h"
#include "tessera/quant/grid/outliers.h"
#include "tessera/quant/recipe/scheme.h"

namespace tessera {

/// The state of one block while its passes run.
struct BlockContext {
  BlockContext(const ModelSpec& model, int64_t index, PerLinear<LinearScheme> formats, Block parameters,
               Reporter& messages)
      : spec(model),
        layer(index),
        schemes(std::move(formats)),
        block(std::move(parameters)),
        split(spec.linears.size()),
        quantized(spec.linears.size()),
        reporter(messages) {}

  const ModelSpec& spec;
  int64_t layer;
  PerLinear<LinearScheme> schemes;

  /// Inputs of this block [windows, tokens, hidden]: `x_float` as the float model produces them, `x_quant` as
  /// the blocks already quantized do (weights and activations quantized). In front of a pass that works on
  /// groups of blocks both are the float model's; behind it `x_float` is undefined.
  at::Tensor x_float, x_quant;

  Block block;  ///< float parameters; passes transform them in place
  /// Set by the pass that selects outliers, equal for the readers of a site; passes that quantize keep those
  /// columns in floating point.
  PerLinear<OutlierSplit> split;
  /// Set by the pass that quantizes: the linears' final integer form.
  PerLinear<std::optional<QuantizedLinear>> quantized;
  nlohmann::json report =
      nlohmann::json::object();  ///< one object a block: passes add what they chose and what it cost
  Reporter& reporter;
};

/// Consecutive blocks, on all of which the passes in front have run.
struct GroupContext {
  const ModelSpec& spec;
  std::span<BlockContext> blocks;
  const at::Tensor& x_quant;  ///< input of the first block as the blocks already quantized produce it
  const at::Tensor& target;   ///< output of the last block in the float model
  Reporter& reporter;
};

/// The norm behind the last block, when that block is quantized. The streams are that block's outputs.
struct FinalNormContext {
  BlockContext& last;
  const at::Tensor& x_float;  ///< [windows, tokens, hidden], of the float model
  const at::Tensor& x_quant;  ///< the same, of the quantized blocks
  at::Tensor gain, bias;      ///< [hidden], float32; passes replace them. `bias` is undefined for RMSNorm
};

/// A block in its final form.
struct FinishedBlock {
  Block norms;  ///< without the linears
  PerLinear<std::optional<QuantizedLinear>> linears;
};

/// The whole model, when every block is quantized. All on the calibration device, float32, but for codes.
struct ModelContext {
  const ModelSpec& spec;
  /// Input of the first block, and output of the last one in the float model: [windows, tokens, hidden].
  at::Tensor embedded, target;
  at::Tensor float_gain, float_bias;  ///< of the float model's norm behind the last block
  at::Tensor lm_head, lm_head_bias;   ///< [vocab, hidden], [vocab]; the bias can be undefined
  Reporter& reporter;

  // Of these passes change norms, output scales and biases.
  std::vector<FinishedBlock> blocks;
  at::Tensor gain, bias;  ///< of the norm behind the last block; `bias` is undefined for RMSNorm
  nlohmann::json report = nlohmann::json::object();
};

class Pass;

/// Where a pass stands in a run, known before the first block.
struct PassPlace {
  const ModelSpec& spec;
  const PerLinear<LinearScheme>& schemes;
  std::span<const std::unique_ptr<Pass>> earlier;  ///< the passes in front

  /// Whether a pass of this name stands in front.
  bool follows(const std::string& name) const;
  /// Whether linears have their integer form here.
  bool is_quantized() const;
};

/// One step of a recipe. Options come from JSON; an unknown option is an Error. Deterministic for a given
/// seed.
class Pass {
 public:
  virtual ~Pass() = default;
  virtual std::string name() const = 0;
  /// Throws Error when the pass cannot work on this model, with these formats or behind these passes.
  virtual void check(const PassPlace& /*place*/) const {}
  /// False when the pass gives the same without calibration windows. Then the inputs in its context may be
  /// undefined.
  virtual bool needs_calibration(const PassPlace& /*place*/) const { return true; }
  /// True when the pass brings linears to their integer form.
  virtual bool quantizes() const { return false; }
  /// True when the pass works on integer linears: it stands behind the pass that quantizes, where others may
  /// not.
  virtual bool refines() const { return false; }
  /// True when the pass leaves zeros among the codes that have to stay.
  virtual bool makes_sparse() const { return false; }
  /// True when survey_block is to see the input x [windows, tokens, hidden] of every block of the float
  /// model, on some windows, before anything else is called.
  virtual bool surveys() const { return false; }
  virtual void survey_block(const ModelSpec& /*spec*/, const at::Tensor& /*x*/) {}
  /// Called once, before the first block.
  virtual void run_on_outer(const ModelSpec& /*spec*/, OuterWeights& /*outer*/) {}
  virtual void run_on_block(BlockContext& /*context*/) {}
  /// Consecutive blocks that run_on_group changes together; 0: the pass works on blocks by themselves. A
  /// recipe has at most one pass that works on groups.
  virtual int64_t group_blocks() const { return 0; }
  virtual void run_on_group(GroupContext& /*context*/) {}
  /// True when run_on_final_norm may change the norm behind the last block. Not together with a pass that
  /// unties embedding and lm_head, which folds that norm into the lm_head.
  virtual bool changes_final_norm() const { return false; }
  virtual void run_on_final_norm(FinalNormContext& /*context*/) {}
  /// True when run_on_model works on the whole model behind the last block.
  virtual bool trains_model() const { return false; }
  virtual void run_on_model(ModelContext& /*context*/) {}
  /// Calibration windows that the pass needs at least.
  virtual int64_t least_windows() const { return 1; }
  /// False when the pass changes what the blocks compute in float, beyond rounding.
  virtual bool keeps_function() const { return true; }
  /// True when run_on_outer unties embedding and lm_head (rotation).
  virtual bool unties_embedding() const { return false; }
  /// Most bytes that the pass holds beside the float weights of its blocks, their quantized linears and the
  /// streams of `windows` x `tokens` calibration tokens.
  virtual size_t workspace_bytes(const ModelSpec& /*spec*/, int64_t /*windows*/, int64_t /*tokens*/) const {
    return 0;
  }
  /// The same of run_on_model, which has no block's float weights; all quantized linears are its own.
  virtual size_t model_bytes(const ModelSpec& /*spec*/, int64_t /*windows*/, int64_t /*tokens*/) const {
    return 0;
  }
  /// What the pass costs a block, about, in forward passes of one token through it. It tells the time that a
  /// run will take.
  virtual double token_passes(const ModelSpec& /*spec*/, int64_t /*windows*/, int64_t /*tokens*/) const {
    return 0;
  }
  /// Most bytes that the pass adds to a block on disk, beside codes and scales.
  virtual uint64_t added_disk_bytes(const PassPlace& /*place*/) const { return 0; }
};

/// Makes the pass that {"pass": NAME, option: value, ...} describes.
/// Throws Error naming the unknown pass or option and listing the known ones.
std::unique_ptr<Pass> make_pass(const nlohmann::json& step);

}  // namespace tessera
