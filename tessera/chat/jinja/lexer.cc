// The lexer.
#include "tessera/chat/jinja/lexer.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "tessera/chat/jinja/text.h"
#include "tessera/text/unicode.h"

namespace tessera::jinja {
namespace {

using Kind = Token::Kind;

bool is_name_start(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Line ends become "\n", and one at the end of the template goes.
std::string normalized(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) text();
    add(Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool follows(std::string_view text) const { return rest().starts_with(text); }

  [[noreturn]] void fail(const std::string& what) const { throw SyntaxError(place_, what); }

  void advance(size_t count) {
    for (size_t end = at_ + count; at_ < end; ++at_) {
      place_ = source_[at_] == '\n' ? Place{place_.line + 1, 1} : Place{place_.line, place_.column + 1};
    }
  }
  bool skip(std::string_view text) {
    if (!follows(text)) return false;
    advance(text.size());
    return true;
  }
  bool skip(char sign, std::string_view text) {
    if (!rest().starts_with(sign) || !rest().substr(1).starts_with(text)) return false;
    advance(text.size() + 1);
    return true;
  }
  void skip_space() { advance(rest().size() - strip(rest(), Side::kLeft).size()); }

  void add(Kind kind, std::string text, Value number = {}) {
    tokens_.push_back({kind, std::move(text), place_, std::move(number)});
  }
  void add_text(std::string_view text) {
    if (!text.empty()) add(Kind::kText, std::string(text));
  }

  /// `text` in front of a tag that begins with `sign` behind its brace and is no {{ if `is_block`.
  std::string_view trimmed(std::string_view text, char sign, bool is_block) const {
    if (sign == '-') return strip(text, Side::kRight);
    if (sign == '+' || !is_block) return text;
    const size_t line = text.rfind('\n') + 1;  // 0 where there is no line end
    const bool whole_line = line > 0 || line_start_;
    return whole_line && strip(text.substr(line), Side::kBoth).empty() ? text.substr(0, line) : text;
  }

  /// Text up to the next tag, and that tag.
  void text() {
    size_t tag = 0;
    for (;; ++tag) {
      tag = std::min(rest().find('{', tag), rest().size());
      if (tag + 1 >= rest().size()) return last_text();
      if (const char kind = rest()[tag + 1]; kind == '{' || kind == '%' || kind == '#') break;
    }
    const char kind = rest()[tag + 1], sign = tag + 2 < rest().size() ? rest()[tag + 2] : '\0';
    add_text(trimmed(rest().substr(0, tag), sign, kind != '{'));
    advance(tag);
    const Place start = place_;
    advance(sign == '-' || sign == '+' ? 3 : 2);
    if (kind == '#') return comment(start);
    if (kind == '%' && raw(start)) return;
    tokens_.push_back({kind == '{' ? Kind::kPrint : Kind::kBlock, "", start});
    tag_tokens(kind == '{' ? Kind::kPrintEnd : Kind::kBlockEnd, start);
  }

  void last_text() {
    add_text(rest());
    advance(rest().size());
  }

  /// Skips the end of a tag ("%}", "#}"), the white space that its sign takes with it, and one line end.
  bool skip_end(std::string_view end) {
    const size_t before = at_;
    if (skip('-', end)) {
      skip_space();
    } else if (!skip('+', end)) {
      if (!skip(end)) return false;
      if (end != "}}") skip("\n");
    }
    line_start_ = at_ > before && source_[at_ - 1] == '\n';
    return true;
  }

  void comment(Place start) {
    const size_t end = rest().find("#}");
    if (end == std::string_view::npos) throw SyntaxError(start, "Missing end of comment tag");
    advance(end > 0 && (rest()[end - 1] == '-' || rest()[end - 1] == '+') ? end - 1 : end);
    skip_end("#}");
  }

  /// {% raw %}...{% endraw %}, of which the opening tag is read up to its name.
  bool raw(Place start) {
    const size_t saved = at_;
    const Place saved_place = place_;
    skip_space();
    if (skip("raw")) {
      skip_space();
      const bool strips = skip("-%}");
      if (strips || skip("%}")) {
        if (strips) skip_space();
        raw_text(start);
        return true;
      }
    }
    at_ = saved;
    place_ = saved_place;
    return false;
  }

  void raw_text(Place start) {
    line_start_ = source_[at_ - 1] == '\n';
    for (size_t tag = rest().find("{%"); tag != std::string_view::npos; tag = rest().find("{%", tag + 1)) {
      std::string_view inside = rest().substr(tag + 2);
      const char sign = inside.empty() ? '\0' : inside[0];
      if (sign == '-' || sign == '+') inside.remove_prefix(1);
      inside = strip(inside, Side::kLeft);
      if (!inside.starts_with("endraw")) continue;
      inside = strip(inside.substr(6), Side::kLeft);
      if (!inside.starts_with("%}") && !inside.starts_with("-%}") && !inside.starts_with("+%}")) continue;
      add_text(trimmed(rest().substr(0, tag), sign, true));
      advance(rest().size() - inside.size());
      skip_end("%}");
      return;
    }
    throw SyntaxError(start, "Missing end of raw directive");
  }

  /// The tokens inside a tag and its end.
  void tag_tokens(Kind end, Place start) {
    std::string open;  // brackets
    for (;;) {
      skip_space();
      if (at_ == source_.size()) throw SyntaxError(start, "the tag that begins here has no end");
      const Place place = place_;
      if (open.empty() && skip_end(end == Kind::kPrintEnd ? "}}" : "%}")) {
        tokens_.push_back({end, "", place});
        return;
      }
      token(open);
    }
  }

  void token(std::string& open) {
    const char c = source_[at_];
    if (is_name_start(c)) return name();
    if (is_digit(c)) return number();
    if (c == '\'' || c == '"') return string(c);
    for (std::string_view sign : {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                  "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"}) {
      if (!follows(sign)) continue;
      balance(sign[0], open);
      add(Kind::kOperator, std::string(sign));
      advance(sign.size());
      return;
    }
    fail(fmt::format("unexpected character '{}'", characters(rest())[0]));
  }

  void balance(char sign, std::string& open) const {
    const std::string_view kOpening = "([{", kClosing = ")]}";
    if (kOpening.find(sign) != std::string_view::npos) open += sign;
    const size_t closing = kClosing.find(sign);
    if (closing == std::string_view::npos) return;
    if (open.empty() || open.back() != kOpening[closing]) fail(fmt::format("unexpected '{}'", sign));
    open.pop_back();
  }

  void name() {
    size_t size = 0;
    while (size < rest().size() && (is_name_start(rest()[size]) || is_digit(rest()[size]))) ++size;
    add(Kind::kName, std::string(rest().substr(0, size)));
    advance(size);
  }

  /// Digits of the base, which may be grouped by "_".
  size_t digits_end(size_t from, int base) const {
    const auto is_one = [&](size_t i) {
      int digit = 0;
      return i < rest().size() && std::from_chars(&rest()[i], &rest()[i] + 1, digit, base).ec == std::errc();
    };
    while (is_one(from) || (from < rest().size() && rest()[from] == '_' && from > 0 && is_one(from + 1)))
      ++from;
    return from;
  }

  void number() {
    int base = 10;
    if (follows("0x") || follows("0X")) base = 16;
    if (follows("0o") || follows("0O")) base = 8;
    if (follows("0b") || follows("0B")) base = 2;
    const size_t start = base == 10 ? 0 : 2;
    size_t end = digits_end(start, base);
    bool is_float = false;
    if (base == 10 && (at_ == 0 || source_[at_ - 1] != '.')) {  // x.0.1 holds two indices
      if (end + 1 < rest().size() && rest()[end] == '.' && is_digit(rest()[end + 1])) {
        is_float = true;
        end = digits_end(end + 1, 10);
      }
      if (end < rest().size() && (rest()[end] == 'e' || rest()[end] == 'E')) {
        const size_t sign =
            end + 1 < rest().size() && (rest()[end + 1] == '+' || rest()[end + 1] == '-') ? 1 : 0;
        const size_t exponent_end = digits_end(end + 1 + sign, 10);
        if (exponent_end > end + 1 + sign) {
          is_float = true;
          end = exponent_end;
        }
      }
    }
    std::string text(rest().substr(start, end - start));
    std::erase(text, '_');
    add(Kind::kNumber, text, is_float ? Value(parse<double>(text)) : Value(parse<int64_t>(text, base)));
    advance(end);
  }

  template <class Number>
  Number parse(const std::string& text, auto... base) const {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base...);
    if (error != std::errc() || end != text.data() + text.size())
      fail(fmt::format("'{}' is not a number of 64 bits", text));
    return value;
  }

  void string(char quote) {
    const Place start = place_;
    std::string text;
    size_t i = at_ + 1;
    while (i < source_.size() && source_[i] != quote) {
      if (source_[i] == '\\' && i + 1 < source_.size()) {
        i = escape(i + 1, text);
      } else {
        text += source_[i++];
      }
    }
    if (i == source_.size()) throw SyntaxError(start, "the string that begins here has no end");
    add(Kind::kString, std::move(text));
    advance(i + 1 - at_);
  }

  /// Appends what the escape, whose letter stands at `i`, means. Returns what follows it.
  size_t escape(size_t i, std::string& out) const {
    constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
    const char letter = source_[i];
    if (const size_t known = kLetters.find(letter); known != std::string_view::npos) {
      out += kMeanings[known];
      return i + 1;
    }
    if (letter == '\n') return i + 1;  // the line goes on
    if (letter >= '0' && letter <= '7') return numeric_escape(i, 3, 8, false, out);
    if (letter == 'x') return numeric_escape(i + 1, 2, 16, true, out);
    if (letter == 'u') return numeric_escape(i + 1, 4, 16, true, out);
    if (letter == 'U') return numeric_escape(i + 1, 8, 16, true, out);
    if (letter == 'N') fail("escapes of the form \\N{...} are not supported");
    out += '\\';
    return i;
  }

  size_t numeric_escape(size_t i, size_t most, int base, bool exact, std::string& out) const {
    uint32_t code = 0;
    const char* const first = source_.data() + i;
    const char* const last = source_.data() + std::min(i + most, source_.size());
    const auto [end, error] = std::from_chars(first, last, code, base);
    const bool is_character = code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
    if (error != std::errc() || (exact && end != first + most) || !is_character)
      fail("an escape in this string does not name a character");
    append_utf8(static_cast<char32_t>(code), out);
    return i + static_cast<size_t>(end - first);
  }

  const std::string source_;
  size_t at_ = 0;
  Place place_;
  bool line_start_ = true;  ///< what follows begins a line
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace tessera::jinja
