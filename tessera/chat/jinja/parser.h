// From tokens to the syntax tree.
#pragma once

#include <initializer_list>
#include <string_view>

#include "tessera/chat/jinja/syntax.h"
#include "tessera/chat/jinja/token_reader.h"

namespace tessera::jinja {

/// The statements of `source`. Throws SyntaxError, also for what is not supported.
Block parse(std::string_view source);

/// Parses expressions.
class ExpressionParser : public TokenReader {
 public:
  using TokenReader::TokenReader;

  ExpressionPtr expression();
  /// Expressions with commas between them are a tuple. Ends in front of one of `ends`, which are names.
  ExpressionPtr tuple(bool with_conditional, std::initializer_list<std::string_view> ends = {});
  /// name(arguments), a filter of `input`, which is null where a block begins with it.
  ExpressionPtr filter(ExpressionPtr input);

 private:
  ExpressionPtr logic(bool is_and);
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr arithmetic(size_t level);
  ExpressionPtr concatenation();
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr primary();
  ExpressionPtr name_or_constant();
  ExpressionPtr sequence();
  ExpressionPtr mapping();
  ExpressionPtr postfix(ExpressionPtr value);
  ExpressionPtr filters_and_tests(ExpressionPtr value);
  ExpressionPtr attribute(ExpressionPtr object);
  ExpressionPtr subscript(ExpressionPtr object);
  ExpressionPtr call(ExpressionPtr callee);
  ExpressionPtr test(ExpressionPtr value);
  CallArguments arguments();
  bool at_tuple_end(std::initializer_list<std::string_view> ends) const;
};

}  // namespace tessera::jinja
