// What tokenizer_config.json, added_tokens.json and special_tokens_map.json say beyond the tokenizer itself.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tessera/source/model_files.h"
#include "tessera/text/added_tokens.h"

namespace tessera {

struct TokenizerConfig {
  std::optional<std::string> bos_token, eos_token;
  /// Those of added_tokens_decoder and added_tokens.json, then the special tokens that the other keys name.
  std::vector<AddedToken> added_tokens;
  // The rest matters to tokenizer.model only; the defaults are those of Hugging Face's LLaMA tokenizer.
  bool add_bos_token = true;
  bool add_eos_token = false;
  bool legacy = true;  ///< the text after a special token begins with a blank, as the whole text does
};

/// Each file may be absent. Throws Error, naming file and place, when one is broken.
TokenizerConfig read_tokenizer_config(const ModelFiles& files);

}  // namespace tessera
