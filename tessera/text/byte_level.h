// The alphabet of byte-level BPE: every byte is written as one printable character (GPT-2).
#pragma once

#include <string>
#include <string_view>

namespace tessera {

/// Each byte of `bytes` as its character: printable Latin-1 stands for itself, the 68 others become U+0100
/// and up in their order, so that a blank is "Ġ" and a newline "Ċ".
std::string bytes_to_alphabet(std::string_view bytes);

/// The bytes of a token in that alphabet. A token with any other character (an added one) is its own UTF-8.
std::string alphabet_to_bytes(std::string_view token);

}  // namespace tessera
