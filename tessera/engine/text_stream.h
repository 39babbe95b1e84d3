// Ids in, text out, as far as it is certain.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tessera/engine/stop_filter.h"
#include "tessera/text/tokenizer.h"

namespace tessera {

/// The text of generated ids, decoded as the continuation of their prompt and cut at the first stop string.
class TextStream {
 public:
  /// `tokenizer` must outlive it.
  TextStream(const Tokenizer& tokenizer, std::span<const int32_t> prompt, std::vector<std::string> stops,
             bool skip_special = true);

  /// The text that is now certain, whole UTF-8 sequences.
  std::string push(int32_t id) { return filter_.push(decoder_.push(id)); }
  /// The same, and no stop string begins or ends within the text of this id.
  std::string push_unstopped(int32_t id) { return filter_.finish() + decoder_.push(id); }
  /// What is still held back.
  std::string finish();
  bool stopped() const { return filter_.stopped(); }

 private:
  StreamDecoder decoder_;
  StopFilter filter_;
};

}  // namespace tessera
