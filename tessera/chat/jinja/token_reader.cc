// Reading of tokens.
#include "tessera/chat/jinja/token_reader.h"

namespace tessera::jinja {
namespace {

using Kind = Token::Kind;

constexpr int kMaxNesting = 200;
constexpr int kMaxLinks =
    1000;  // in one tag, of chains such as a.b.c or 1 + 2 + 3: each makes the tree higher

}  // namespace

const Token& TokenReader::next() {
  const Token& token = current();
  if (token.kind == Kind::kPrint || token.kind == Kind::kBlock) links_ = 0;
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

void TokenReader::link() {
  if (++links_ > kMaxLinks) fail("this expression is too long");
}

bool TokenReader::has_read(std::string_view name, size_t first) const {
  return std::any_of(tokens_.begin() + static_cast<std::ptrdiff_t>(first),
                     tokens_.begin() + static_cast<std::ptrdiff_t>(at_),
                     [&](const Token& token) { return token.is_name(name); });
}

bool TokenReader::skip_operator(std::string_view sign) {
  if (!current().is_operator(sign)) return false;
  next();
  return true;
}

bool TokenReader::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  next();
  return true;
}

void TokenReader::expect_operator(std::string_view sign) {
  if (!skip_operator(sign)) fail_unexpected(fmt::format("'{}'", sign));
}

void TokenReader::expect_name(std::string_view name) {
  if (!skip_name(name)) fail_unexpected(fmt::format("'{}'", name));
}

void TokenReader::expect(Kind kind, std::string_view description) {
  if (current().kind != kind) fail_unexpected(description);
  next();
}

std::string TokenReader::expect_variable() {
  if (current().kind != Kind::kName) fail_unexpected("a name");
  for (std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
    if (current().text == constant) fail(fmt::format("'{}' cannot be assigned to", constant));
  }
  return next().text;
}

void TokenReader::fail_unexpected(std::string_view expected) const {
  const Token& token = current();
  const bool has_text = token.kind == Kind::kName || token.kind == Kind::kOperator;
  fail(fmt::format("expected {}, found {}", expected,
                   has_text ? fmt::format("'{}'", token.text)
                   : token.kind == Kind::kString || token.kind == Kind::kNumber ? "a literal"
                   : token.kind == Kind::kBlockEnd || token.kind == Kind::kPrintEnd
                       ? "the end of the tag"
                       : "the end of the template"));
}

TokenReader::Nested::Nested(TokenReader& reader) : reader_(reader) {
  if (reader_.depth_ == kMaxNesting) reader_.fail(fmt::format("nested more than {} deep", kMaxNesting));
  ++reader_.depth_;
}

}  // namespace tessera::jinja
