// Texts of users.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/text/tokenizer.h"

namespace tessera {

/// Ids of a UTF-8 text file with the tokenizer's own BOS. With `wanted` > 0 the first so many are enough, and
/// no more of a long file is read than they take. Throws Error when the file cannot be read, is empty, or is
/// no UTF-8 text.
std::vector<int32_t> encode_file(const Tokenizer& tokenizer, const std::string& path, int64_t wanted = 0);

}  // namespace tessera
