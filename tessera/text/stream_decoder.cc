// StreamDecoder: decodes a short window of ids, not the whole text again and again.
#include "tessera/text/tokenizer.h"
#include "tessera/text/unicode.h"

namespace tessera {

std::string StreamDecoder::push(int32_t id) {
  pending_.push_back(id);
  std::string text = pending_text();
  // U+FFFD at the end is a character whose bytes are not all there yet.
  if (text.empty() || text.ends_with(kReplacementUtf8)) return "";
  context_ = std::move(pending_);
  pending_.clear();
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = pending_text();
  context_.clear();
  pending_.clear();
  return text;
}

std::string StreamDecoder::pending_text() const {
  // Decoding drops the blank before the first word of a text, so that words are decoded after those before.
  std::vector<int32_t> window = context_;
  window.insert(window.end(), pending_.begin(), pending_.end());
  const std::string before = tokenizer_.decode(context_, skip_special_);
  const std::string all = tokenizer_.decode(window, skip_special_);
  if (all.starts_with(before)) return all.substr(before.size());
  return tokenizer_.decode(pending_, skip_special_);  // invalid bytes have swallowed the context
}

}  // namespace tessera
