// The "post_processor" of tokenizer.json: the special tokens around a text.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/base/json_node.h"

namespace tessera {

/// Ids that add_special_tokens puts before and after those of the text.
struct PostProcessor {
  std::vector<int32_t> before, after;
};

/// TemplateProcessing (its template for one sequence), ByteLevel (which moves offsets only) and Sequence;
/// null adds nothing. Ids must lie below `vocab_size`. Throws Error, naming file and place, for anything
/// else.
PostProcessor parse_post_processor(const JsonNode& node, int32_t vocab_size);

}  // namespace tessera
