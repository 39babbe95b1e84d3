// How likely a model finds each choice.
#pragma once

#include <string_view>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/model/model.h"
#include "tessera/tasks/task.h"
#include "tessera/text/tokenizer.h"

namespace tessera {

/// Ids whose last ones are judged.
struct EncodedChoice {
  std::vector<int32_t> ids = {};
  size_t scored = 0;  ///< of them, from the end

  bool operator==(const EncodedChoice&) const = default;
};

/// As lm-evaluation-harness encodes a pair: white space at the end of the context belongs to the
/// continuation, both are encoded together, and what lies behind the ids of the context alone is scored. An
/// empty context is one BOS (or EOS). Cut from the left to max_positions + 1 ids. Throws Error when a
/// continuation does not fit by itself.
EncodedChoice encode_choice(const Tokenizer& tokenizer, const TaskItem::Choice& choice,
                            int64_t max_positions);

/// [items, choices]
using EncodedItems = std::vector<std::vector<EncodedChoice>>;

/// All choices of the items. Throws Error, naming the task and the number of the document.
EncodedItems encode_items(const Tokenizer& tokenizer, const std::vector<TaskItem>& items,
                          int64_t max_positions, std::string_view task);

/// Log-likelihoods [items, choices] in nats: the sum over the ids of the continuation. Choices of an item
/// share what they have in common: those that differ in their last id run once, others find their beginning
/// in the prefix cache. `progress` is what the progress of items is called. Throws Error when the model's
/// logits are not finite.
std::vector<std::vector<double>> score_choices(Model& model, EncodedItems items, std::string_view progress,
                                               Reporter& reporter);

}  // namespace tessera
