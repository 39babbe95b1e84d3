// Ids in, text out, as far as it is certain.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tessera/engine/stop_filter.h"
#include "tessera/text/tokenizer.h"

namespace tessera {

/// The text of generated ids, decoded as the continuation of their prompt and cut at the first stop string. A
/// stop string that is one special token stops at its id, which no text need show.
class TextStream {
 public:
  /// `tokenizer` must outlive it.
  TextStream(const Tokenizer& tokenizer, std::span<const int32_t> prompt, std::vector<std::string> stops,
             bool skip_special = true);

  /// The text that is now certain, whole UTF-8 sequences.
  std::string push(int32_t id);
  /// The same, and no stop string begins or ends within the text of this id.
  std::string push_unstopped(int32_t id) { return filter_.finish() + decoder_.push(id); }
  /// What is still held back.
  std::string finish();
  bool stopped() const { return stopped_ || filter_.stopped(); }

 private:
  std::set<int32_t> stop_ids_;
  StreamDecoder decoder_;
  StopFilter filter_;
  bool stopped_ = false;  ///< by an id
};

}  // namespace tessera
