// One choice of an answer, from the engine's news to text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tessera/engine/text_stream.h"
#include "tessera/server/engine_thread.h"
#include "tessera/server/generation_request.h"

namespace tessera {

/// A token as the arrays of log probabilities list it.
struct ListedToken {
  int32_t id = 0;
  std::optional<TokenScore> score = {};  ///< none: it is the first of all
  int64_t text_offset = 0;               ///< characters of the text before it
};

/// A part of a choice, or all of it.
struct ChoicePart {
  size_t index = 0;
  std::string text = {};
  std::vector<ListedToken> tokens = {};  ///< where log probabilities are asked for
  std::string finish_reason = {};        ///< empty: there is more to come

  /// Adds the part that follows.
  void append(ChoicePart&& next);
};

class ChoiceText {
 public:
  /// Of the prompt that was run, the first `hidden` ids are not shown. `request` and `served` must outlive
  /// it.
  ChoiceText(size_t index, const std::vector<int32_t>& prompt, size_t hidden,
             const GenerationRequest& request, const ServedModel& served);

  /// Takes news. True when a stop string has come and the engine can stop.
  bool take(const TokenEvent& event);
  /// What is certain since the last call. Scores wait for the text of their token.
  ChoicePart take_part() { return std::exchange(part_, ChoicePart{.index = part_.index}); }
  /// Whether take_part() has text or the end.
  bool has_part() const { return !part_.text.empty() || !part_.finish_reason.empty(); }
  bool finished() const { return finished_; }
  const std::string& finish_reason() const { return finish_reason_; }
  /// That were drawn up to the end.
  int64_t tokens() const { return drawn_; }
  /// No more tokens are needed: an echo alone.
  void finish(const std::string& reason);

 private:
  void echo(const std::vector<int32_t>& prompt, size_t hidden);
  void add_text(const std::string& text);
  bool ends_text(int32_t id) const;

  const GenerationRequest& request_;
  const ServedModel& served_;
  TextStream stream_;
  ChoicePart part_;
  std::vector<ListedToken> prompt_;  ///< that is echoed
  size_t scored_ = 0;                ///< of prompt_, those that are out
  int64_t characters_ = 0;           ///< of all the text so far
  int64_t drawn_ = 0;
  bool finished_ = false;
  std::string finish_reason_;
};

}  // namespace tessera
