// Decoding, stop strings and the arrays of log probabilities.
#include "tessera/server/choice_text.h"

#include <algorithm>
#include <iterator>

namespace tessera {
namespace {

int64_t count_characters(const std::string& utf8) {
  return std::ranges::count_if(utf8, [](char c) { return (c & 0xc0) != 0x80; });
}

}  // namespace

void ChoicePart::append(ChoicePart&& next) {
  text += next.text;
  std::ranges::move(next.tokens, std::back_inserter(tokens));
  finish_reason = std::move(next.finish_reason);
}

ChoiceText::ChoiceText(size_t index, const std::vector<int32_t>& prompt, size_t hidden,
                       const GenerationRequest& request, const ServedModel& served)
    : request_(request),
      served_(served),
      stream_(served.tokenizer, prompt, request.stops, request.skip_special),
      part_{.index = index} {
  if (request.echo) echo(prompt, hidden);
}

void ChoiceText::echo(const std::vector<int32_t>& prompt, size_t hidden) {
  StreamDecoder decoder(served_.tokenizer, request_.skip_special);
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (i >= hidden) prompt_.push_back({.id = prompt[i], .text_offset = characters_});
    const std::string text = decoder.push(prompt[i]);
    if (i >= hidden) add_text(text);
  }
  // The first id of all has no score.
  if (request_.top_logprobs && hidden == 0) part_.tokens.push_back(prompt_[scored_++]);
}

void ChoiceText::add_text(const std::string& text) {
  part_.text += text;
  characters_ += count_characters(text);
}

bool ChoiceText::ends_text(int32_t id) const {
  return !request_.ignore_eos && std::ranges::find(served_.ends, id) != served_.ends.end();
}

bool ChoiceText::take(const TokenEvent& event) {
  if (finished_) return false;
  for (const TokenScore& score : event.prompt) {
    part_.tokens.push_back(prompt_[scored_++]);
    part_.tokens.back().score = score;
  }
  if (event.id) {
    ++drawn_;
    if (request_.top_logprobs) {
      part_.tokens.push_back({.id = *event.id, .score = event.score, .text_offset = characters_});
    }
    if (!ends_text(*event.id)) {
      const bool may_stop = drawn_ > request_.rules.min_tokens;
      add_text(may_stop ? stream_.push(*event.id) : stream_.push_unstopped(*event.id));
    }
  }
  if (stream_.stopped()) {
    finish("stop");
    return !event.finish;
  }
  if (event.finish) finish(*event.finish == FinishReason::kEndOfText ? "stop" : "length");
  return false;
}

void ChoiceText::finish(const std::string& reason) {
  // The end of the text may itself complete a stop string.
  add_text(stream_.finish());
  part_.finish_reason = finish_reason_ = stream_.stopped() ? "stop" : reason;
  finished_ = true;
}

}  // namespace tessera
