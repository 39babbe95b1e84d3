// The "pre_tokenizer" of tokenizer.json: cuts normalized text into words.
#pragma once

#include <functional>
#include <vector>

#include "tessera/base/json_node.h"
#include "tessera/text/split.h"

namespace tessera {

/// Appends the words of `piece`, which is no added token, to `out`.
using PreTokenizer = std::function<void(Piece&& piece, std::vector<Piece>& out)>;

/// Sequence, Split, ByteLevel, Metaspace, Digits, Whitespace, WhitespaceSplit, Punctuation; null does
/// nothing. Throws Error, naming file and place, for others and for missing or mistyped members.
PreTokenizer parse_pre_tokenizer(const JsonNode& node);

}  // namespace tessera
