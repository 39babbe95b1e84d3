// The "normalizer" of tokenizer.json: rewrites the text between added tokens before it is cut.
#pragma once

#include <functional>
#include <string>

#include "tessera/base/json_node.h"

namespace tessera {

/// Valid UTF-8 to valid UTF-8.
using Normalizer = std::function<std::string(std::string)>;

/// Sequence, Prepend, Replace, Strip, Lowercase, NFC, NFD, NFKC, NFKD; null does nothing. Throws Error,
/// naming file and place, for others and for missing or mistyped members.
Normalizer parse_normalizer(const JsonNode& node);

}  // namespace tessera
