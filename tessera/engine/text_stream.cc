// Decoding behind a prompt.
#include "tessera/engine/text_stream.h"

#include <algorithm>
#include <utility>

namespace tessera {
namespace {

constexpr size_t kPromptContext = 16;  // ids that can bear on how the next one is decoded, with room to spare

std::set<int32_t> special_ids(const Tokenizer& tokenizer, const std::vector<std::string>& stops) {
  std::set<int32_t> ids;
  for (const std::string& stop : stops) {
    if (const auto id = tokenizer.special_id(stop)) ids.insert(*id);
  }
  return ids;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                       std::vector<std::string> stops, bool skip_special)
    : stop_ids_(special_ids(tokenizer, stops)), decoder_(tokenizer, skip_special), filter_(std::move(stops)) {
  for (int32_t id : prompt.last(std::min(prompt.size(), kPromptContext))) decoder_.push(id);
}

std::string TextStream::push(int32_t id) {
  if (!stop_ids_.contains(id)) return filter_.push(decoder_.push(id));
  std::string text = finish();
  stopped_ = true;
  return text;
}

std::string TextStream::finish() {
  std::string text = filter_.push(decoder_.finish());
  return text += filter_.finish();
}

}  // namespace tessera
