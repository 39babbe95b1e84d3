// tokenizer.model: its vocabulary, and whether the library can be trusted with it.
#include "hostile_input.h"
#include "tessera/base/error.h"
#include "tessera/source/sentencepiece_check.h"
#include "tessera/source/sentencepiece_reader.h"

void tessera::read_hostile_input(std::string_view input) {
  try {
    check_sentencepiece(input, "tokenizer.model");
  } catch (const Error&) {
  }
  read_sentencepiece(input, "tokenizer.model");
}
