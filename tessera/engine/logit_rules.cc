// Penalties as edits of logits.
#include "tessera/engine/logit_rules.h"

#include <cmath>
#include <limits>

#include "tessera/base/error.h"

namespace tessera {

void check_rules(const LogitRules& rules, const LogitBias& bias, int64_t vocab_size) {
  if (!(rules.repetition_penalty > 0) || !std::isfinite(rules.repetition_penalty)) {
    throw Error("repetition penalty {} is out of range: above 0 (1: none)", rules.repetition_penalty);
  }
  if (!std::isfinite(rules.presence_penalty) || !std::isfinite(rules.frequency_penalty)) {
    throw Error("presence penalty {} and frequency penalty {} must be finite", rules.presence_penalty,
                rules.frequency_penalty);
  }
  if (rules.min_tokens < 0) throw Error("{} tokens at least are out of range: 0 or more", rules.min_tokens);
  for (const auto& [id, addend] : bias) {
    if (id < 0 || id >= vocab_size) {
      throw Error("bias for token id {}, which is outside the vocabulary of {}", id, vocab_size);
    }
    if (!std::isfinite(addend)) throw Error("the bias for token id {} is not finite", id);
  }
}

LogitEditor::LogitEditor(const LogitRules& rules, const LogitBias& bias, std::span<const int32_t> prompt,
                         std::span<const int32_t> ends)
    : repetition_(rules.repetition_penalty),
      presence_(rules.presence_penalty),
      frequency_(rules.frequency_penalty),
      min_tokens_(rules.min_tokens),
      ends_(ends.begin(), ends.end()) {
  for (const auto& [id, addend] : bias) token(id).bias = addend;
  if (min_tokens_ > 0) {
    for (int32_t id : ends_) token(id).ends_text = true;
  }
  if (repetition_ != 1) {
    for (int32_t id : prompt) token(id).repeated = true;
  }
  for (const auto& [id, token] : tokens_) update(id);
}

LogitEditor::Token& LogitEditor::token(int32_t id) {
  const auto [found, is_new] = tokens_.try_emplace(id);
  if (is_new) {
    found->second.place = edits_.size();
    edits_.push_back({.id = id});
  }
  return found->second;
}

void LogitEditor::update(int32_t id) {
  const Token& token = tokens_.at(id);
  LogitEdit& edit = edits_[token.place];
  edit.divisor = token.repeated ? repetition_ : 1;
  edit.addend = token.bias - frequency_ * static_cast<float>(token.count);
  if (token.count > 0) edit.addend -= presence_;
  if (token.ends_text && drawn_ < min_tokens_) edit.addend = -std::numeric_limits<float>::infinity();
}

void LogitEditor::push(int32_t id) {
  ++drawn_;
  if (repetition_ != 1 || presence_ != 0 || frequency_ != 0) {
    Token& drawn = token(id);
    drawn.repeated = true;
    ++drawn.count;
    update(id);
  }
  if (drawn_ == min_tokens_) {
    for (int32_t end : ends_) update(end);
  }
}

}  // namespace tessera
