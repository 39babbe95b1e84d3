// Cuts a template into tokens, with the white space rules of trim_blocks and lstrip_blocks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tessera/chat/jinja/syntax.h"

namespace tessera::jinja {

struct Token {
  enum class Kind : uint8_t {
    kText,      ///< outside of tags
    kPrint,     ///< {{
    kPrintEnd,  ///< }}
    kBlock,     ///< {%
    kBlockEnd,  ///< %}
    kName,
    kString,  ///< its text is without quotes and escapes
    kNumber,  ///< `number` holds its value
    kOperator,
    kEnd  ///< of the template
  };

  Kind kind;
  std::string text;
  Place place;
  Value number = {};

  bool is_operator(std::string_view sign) const { return kind == Kind::kOperator && text == sign; }
  bool is_name(std::string_view name) const { return kind == Kind::kName && text == name; }
};

/// The tokens of `source`, the last one kEnd. Throws SyntaxError.
std::vector<Token> tokenize(std::string_view source);

/// A template that is not well-formed.
class SyntaxError : public Error {
 public:
  SyntaxError(Place where, const std::string& what) : Error("{}", what), place(where) {}
  Place place;
};

}  // namespace tessera::jinja
