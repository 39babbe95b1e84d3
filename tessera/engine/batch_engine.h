// Many requests on one model: the loop of steps around Scheduler and Model.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tessera/engine/logit_rules.h"
#include "tessera/engine/scheduler.h"
#include "tessera/model/model.h"

namespace tessera {

enum class FinishReason : uint8_t {
  kEndOfText,    ///< the model wrote an id that ends the text
  kStop,         ///< a stop string
  kMaxTokens,    ///< as many ids as were asked for
  kContextFull,  ///< the model has no positions left
  kNotFinite     ///< the model's logits are not finite
};
/// "end of text", "stop string", "token limit", "context full", "logits that are not finite"
std::string_view name_of(FinishReason reason);

/// Ids to go on from, or to score.
struct Request {
  std::vector<int32_t> prompt = {};
  SamplingOptions sampling = {};
  LogitRules rules = {};
  LogitBias bias = {};
  int64_t max_tokens = 256;        ///< to generate at most; 0: the prompt is only scored
  std::vector<int32_t> ends = {};  ///< ids that end the text
  std::optional<int64_t> score_from =
      {};             ///< logits behind the ids from this one on are wanted, drawn ones too
  int32_t owner = 0;  ///< owners share the device fairly
  uint64_t salt = 0;  ///< requests of different salts share no cached page

  // What becomes of it, told from within BatchEngine::step(). Empty: nobody asks.
  std::function<void(int32_t id)> on_token = {};  ///< every id that is drawn, the one that ends the text too
  /// Logits [rows, vocab_size] behind ids first, first + 1, ... in order, each once; those that an id is
  /// drawn from come before its on_token.
  std::function<void(int64_t first, std::span<const float> logits)> on_logits = {};
  std::function<void(FinishReason)> on_finish = {};  ///< the last call, unless the request is cancelled
};

struct EngineOptions {
  int64_t step_tokens = 0;      ///< rows of a step at most; 0: Model::max_rows()
  int64_t max_sequences = 256;  ///< at once
  int64_t pages = 0;            ///< of the pool; pages_for_sequences() says how many
  bool prefix_cache = true;
};

/// Pages for `sequences` of `tokens` ids each at once, with room to spare.
int64_t pages_for_sequences(int64_t sequences, int64_t tokens);

/// One thread at a time. Texts do not depend on what else runs: ids are drawn from the request's own seed,
/// and a quantized model's logits are the same in every batch.
class BatchEngine {
 public:
  /// `model` must outlive it. Throws Error when an option is out of range or memory for the pool is lacking.
  BatchEngine(Model& model, const EngineOptions& options);

  /// Throws Error when the prompt is empty, holds an id outside the vocabulary or does not fit in the model's
  /// context or the pool, or an option is out of range.
  SequenceId submit(Request request);
  /// Forgets a request; one that has finished is passed over.
  void cancel(SequenceId id);
  /// Runs one step. False when no request is left.
  bool step();

  const Scheduler& scheduler() const { return scheduler_; }
  /// What ran in the last step.
  const StepPlan& last_plan() const { return plan_; }

 private:
  struct Running {
    Request request;
    LogitEditor editor;
  };

  Batch make_batch() const;
  WantedLogits wanted(const Sequence& sequence, const Request& request, const Chunk& chunk) const;
  bool draws(const Sequence& sequence, const Request& request, const Chunk& chunk) const;
  /// Hands out the logits that requests asked to see.
  void show_logits(const Batch& batch);
  /// The next id of every sequence in the plan whose ids are all computed.
  std::map<SequenceId, int32_t> sample();
  void take_token(SequenceId id, int32_t token);
  void finish(SequenceId id, FinishReason reason);

  Model& model_;
  Scheduler scheduler_;
  StepPlan plan_;
  std::unique_ptr<KvPool> pool_;
  std::map<SequenceId, Running> requests_;
  /// Kept until the next step: a request may be cancelled from within one of its own functions.
  std::vector<std::map<SequenceId, Running>::node_type> ended_;
  SequenceId next_id_ = 1;
};

}  // namespace tessera
