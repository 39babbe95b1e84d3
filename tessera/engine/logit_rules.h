// How the ids of a text so far bear on the next one: penalties, biases, a least length.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "tessera/kernels/sampling.h"

namespace tessera {

struct LogitRules {
  float repetition_penalty =
      1;  ///< > 0; divides the logits of ids in prompt and text (multiplies those below 0)
  float presence_penalty = 0;   ///< taken from the logits of ids in the text
  float frequency_penalty = 0;  ///< the same, for each time that they are there
  int64_t min_tokens = 0;       ///< before so many are drawn, no end of the text is
};

/// What is added to the logits of ids.
using LogitBias = std::map<int32_t, float>;

/// Throws Error when a number is out of range or not finite, or an id is outside the vocabulary.
void check_rules(const LogitRules& rules, const LogitBias& bias, int64_t vocab_size);

/// The edits that the rules ask for, kept up to date with a text.
class LogitEditor {
 public:
  /// A text that begins behind `prompt` and is ended by the ids `ends`.
  LogitEditor(const LogitRules& rules, const LogitBias& bias, std::span<const int32_t> prompt,
              std::span<const int32_t> ends);

  /// `id` was drawn.
  void push(int32_t id);
  /// For the next draw; valid until the next push().
  std::span<const LogitEdit> edits() const { return edits_; }

 private:
  struct Token {
    size_t place = 0;  ///< in edits_
    float bias = 0;
    int64_t count = 0;      ///< in the text
    bool repeated = false;  ///< it is in prompt or text
    bool ends_text = false;
  };
  Token& token(int32_t id);
  /// Makes the edit of an id anew.
  void update(int32_t id);

  float repetition_, presence_, frequency_;
  int64_t min_tokens_, drawn_ = 0;
  std::vector<int32_t> ends_;
  std::unordered_map<int32_t, Token> tokens_;
  std::vector<LogitEdit> edits_;
};

}  // namespace tessera
