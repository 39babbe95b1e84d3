// One pass over the pattern, copying all but what differs.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tessera/text/oniguruma.h"

#include <pcre2.h>

#include <map>
#include <memory>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {
namespace {

// Members of \w, to stand in a class. By itself, Oniguruma's \w has the superscripts and fractions of Latin-1
// too.
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kWordByItself = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\xB2\xB3\xB9\xBC-\xBE)";
constexpr std::string_view kHexadecimal = "0-9A-Fa-f";

bool compiles(const std::string& pattern) {
  int error = 0;
  size_t offset = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF, &error, &offset,
                    nullptr),
      pcre2_code_free);
  return code != nullptr;
}

class Rewriter {
 public:
  Rewriter(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (!done()) step();
    return std::move(out_);
  }

 private:
  bool done() const { return position_ == pattern_.size(); }
  bool sees(std::string_view text) const { return pattern_.substr(position_).starts_with(text); }
  void copy(size_t n) {
    out_ += pattern_.substr(position_, n);
    position_ = std::min(position_ + n, pattern_.size());
  }

  void step();
  void open_group();
  void escape(bool in_class);
  void property();
  void char_class();
  void posix_class();
  void interval();
  [[noreturn]] void unsupported(std::string_view what) const {
    throw Error("{}: regex '{}': {} is not supported", where_, pattern_, what);
  }

  std::string_view pattern_;
  const std::string& where_;
  size_t position_ = 0;
  std::string out_;
  size_t atom_ = 0;             ///< where in out_ begins what a quantifier would repeat
  std::vector<size_t> groups_;  ///< where in out_ the open groups begin
};

void Rewriter::step() {
  const char c = pattern_[position_];
  if (c == '{') return interval();
  if (c == ')') {
    if (!groups_.empty()) {
      atom_ = groups_.back();
      groups_.pop_back();
    }
    return copy(1);
  }
  const bool quantifier = c == '*' || c == '+' || c == '?';
  const bool continuation = (c & 0xC0) == 0x80;  // of a UTF-8 sequence
  if (!quantifier && !continuation) atom_ = out_.size();
  switch (c) {
    case '\\':
      return escape(false);
    case '[':
      return char_class();
    case '(':
      return open_group();
    default:
      return copy(1);
  }
}

void Rewriter::open_group() {
  groups_.push_back(out_.size());
  copy(1);
  if (!sees("?")) return;
  const size_t end = pattern_.find_first_not_of("imx-", position_ + 1);
  if (end == std::string_view::npos || (pattern_[end] != ':' && pattern_[end] != ')')) return;
  std::string flags(pattern_.substr(position_, end - position_));
  for (char& flag : flags) flag = flag == 'm' ? 's' : flag;
  out_ += flags;
  position_ = end;
}

void Rewriter::escape(bool in_class) {
  const char kind = position_ + 1 < pattern_.size() ? pattern_[position_ + 1] : '\0';
  const auto put = [&](std::string_view text) {
    out_ += text;
    position_ += 2;
  };
  const auto put_set = [&](std::string_view members, bool negated) {
    if (in_class && negated) unsupported(fmt::format("\\{} in a character class", kind));
    put(in_class ? std::string(members) : fmt::format("[{}{}]", negated ? "^" : "", members));
  };
  switch (kind) {
    case 's':
      return put(R"(\p{White_Space})");
    case 'S':
      return put(R"(\P{White_Space})");
    case 'w':
    case 'W':
      return put_set(in_class ? kWord : kWordByItself, kind == 'W');
    case 'h':
    case 'H':
      return put_set(kHexadecimal, kind == 'H');
    case 'v':
      return put(R"(\x0B)");
    case 'b':
      if (in_class) return copy(2);  // a backspace
      return put(fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", kWordByItself));
    case 'B':
      return put(fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", kWordByItself));
    case 'u':
      out_ += fmt::format("\\x{{{}}}", pattern_.substr(position_ + 2, 4));
      position_ = std::min(position_ + 6, pattern_.size());
      return;
    case 'p':
    case 'P':
      return property();
    default:
      return copy(2);
  }
}

void Rewriter::property() {
  const size_t end = pattern_.find('}', position_);
  if (pattern_.substr(position_ + 2, 1) != "{" || end == std::string_view::npos) return copy(2);
  std::string_view name = pattern_.substr(position_ + 3, end - position_ - 3);
  bool negated = pattern_[position_ + 1] == 'P';
  if (name.starts_with('^')) {
    negated = !negated;
    name.remove_prefix(1);
  }
  const bool script = compiles(fmt::format("\\p{{sc:{}}}", name));
  out_ += fmt::format("\\{}{{{}{}}}", negated ? 'P' : 'p', script ? "sc:" : "", name);
  position_ = end + 1;
}

void Rewriter::char_class() {
  copy(1);
  if (sees("^")) copy(1);
  if (sees("]")) copy(1);  // a member, being the first
  int nested = 0;          // a class in a class adds its members
  while (!done() && !(nested == 0 && sees("]"))) {
    if (sees("[:")) {
      posix_class();
    } else if (sees("[^") || sees("[]")) {
      unsupported("such a character class in a character class");
    } else if (sees("[")) {
      ++nested;
      ++position_;
    } else if (sees("]")) {
      --nested;
      ++position_;
    } else if (sees("&&")) {
      unsupported("&& in a character class");
    } else if (sees("\\")) {
      escape(true);
    } else {
      copy(1);
    }
  }
  if (!done()) copy(1);
}

void Rewriter::posix_class() {
  static const std::map<std::string_view, std::string_view> members{{"alnum", R"(\p{Alphabetic}\p{Nd})"},
                                                                    {"alpha", R"(\p{Alphabetic})"},
                                                                    {"digit", R"(\p{Nd})"},
                                                                    {"lower", R"(\p{Lowercase})"},
                                                                    {"space", R"(\p{White_Space})"},
                                                                    {"upper", R"(\p{Uppercase})"},
                                                                    {"word", kWord},
                                                                    {"xdigit", kHexadecimal}};
  const size_t end = std::min(pattern_.find(":]", position_), pattern_.size());
  const std::string_view name = pattern_.substr(position_ + 2, end - position_ - 2);
  const auto it = members.find(name);
  if (it == members.end()) unsupported(fmt::format("[:{}:]", name));
  out_ += it->second;
  position_ = end + 2;
}

void Rewriter::interval() {
  const size_t end = pattern_.find_first_not_of("0123456789,", position_ + 1);
  const bool valid = end != std::string_view::npos && pattern_[end] == '}' && end > position_ + 1;
  if (!valid) {
    atom_ = out_.size();
    return copy(1);  // a plain brace
  }
  copy(end + 1 - position_);
  if (!sees("+")) return;
  out_.insert(atom_, "(?:");
  out_ += ')';
}

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern, const std::string& where) {
  return Rewriter(pattern, where).run();
}

}  // namespace tessera
