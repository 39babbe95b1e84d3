// The "decoder" of tokenizer.json: turns token strings into text.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tessera/base/json_node.h"

namespace tessera {

/// Token strings to the parts of the text, in order.
using Decoder = std::function<std::vector<std::string>(std::vector<std::string>)>;

/// Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace; null puts blanks between the tokens.
/// Throws Error, naming file and place, for others and for missing or mistyped members.
Decoder parse_decoder(const JsonNode& node);

}  // namespace tessera
