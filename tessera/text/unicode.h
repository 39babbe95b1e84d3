// UTF-8 and the few character classes that tokenizers need.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tessera {

/// U+FFFD, which stands for bytes that are not valid UTF-8.
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

struct CodePoint {
  char32_t value;  ///< U+FFFD if not valid
  size_t length;   ///< bytes; of invalid text, those that one U+FFFD replaces (Unicode's "maximal subpart")
  bool valid;
};

/// The code point at the start of `text`, which is not empty.
CodePoint decode_code_point(std::string_view text);

void append_utf8(char32_t code_point, std::string& out);

bool is_valid_utf8(std::string_view text);
/// `text` with every maximal invalid part replaced by U+FFFD, as Python and Rust do.
std::string replace_invalid_utf8(std::string_view text);

/// Unicode's White_Space.
bool is_white_space(char32_t c);
/// \w of Rust's regex crate: Alphabetic, Mark, Decimal_Number, Connector_Punctuation, Join_Control.
bool is_word(char32_t c);
/// Categories Nd, Nl, No.
bool is_number(char32_t c);
/// Categories P*, and all of ASCII that is neither a letter, a digit, a blank nor a control character.
bool is_punctuation(char32_t c);

/// Calls visit(code_point, position, length) for each character of valid UTF-8.
template <class Visit>
void for_each_code_point(std::string_view text, const Visit& visit) {
  for (size_t position = 0; position < text.size();) {
    const CodePoint c = decode_code_point(text.substr(position));
    visit(c.value, position, c.length);
    position += c.length;
  }
}

}  // namespace tessera
