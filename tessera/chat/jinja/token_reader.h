// A position among the tokens of a template.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/chat/jinja/lexer.h"

namespace tessera::jinja {

/// What the parsers of expressions and statements have in common: a position among the tokens.
class TokenReader {
 public:
  explicit TokenReader(const std::vector<Token>& tokens) : tokens_(tokens) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next();

  /// Tokens read so far.
  size_t position() const { return at_; }
  /// Whether a name stands among the tokens from position `first` on that have been read.
  bool has_read(std::string_view name, size_t first) const;

  bool skip_operator(std::string_view sign);
  bool skip_name(std::string_view name);
  void expect_operator(std::string_view sign);
  void expect_name(std::string_view name);
  void expect(Token::Kind kind, std::string_view description);
  /// A name that may be assigned to.
  std::string expect_variable();

  [[noreturn]] void fail(const std::string& what) const { throw SyntaxError(current().place, what); }
  [[noreturn]] void fail_unexpected(std::string_view expected) const;

  /// Counts a link of a chain. Throws SyntaxError where the tag has too many.
  void link();

  /// Counts how deeply constructs are nested while one lives. Throws SyntaxError where it is too deep.
  class Nested {
   public:
    explicit Nested(TokenReader& reader);
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    ~Nested() { --reader_.depth_; }

   private:
    TokenReader& reader_;
  };

 private:
  const std::vector<Token>& tokens_;
  size_t at_ = 0;
  int depth_ = 0, links_ = 0;
};

}  // namespace tessera::jinja
