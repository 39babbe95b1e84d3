// Text functions. Cases and categories come from utf8proc.
#include "tessera/chat/jinja/text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <utility>

#include "tessera/text/unicode.h"

namespace tessera::jinja {
namespace {

utf8proc_int32_t proc(char32_t c) {
  return static_cast<utf8proc_int32_t>(c);
}
char32_t to_upper(char32_t c) {
  return static_cast<char32_t>(utf8proc_toupper(proc(c)));
}
char32_t to_lower(char32_t c) {
  return static_cast<char32_t>(utf8proc_tolower(proc(c)));
}
char32_t to_title(char32_t c) {
  return static_cast<char32_t>(utf8proc_totitle(proc(c)));
}

bool is_cased(char32_t c) {
  return to_upper(c) != c || to_lower(c) != c;
}

template <class Map>
std::string map_characters(std::string_view text, const Map& map) {
  std::string out;
  out.reserve(text.size());
  for_each_code_point(text, [&](char32_t c, size_t, size_t) { append_utf8(map(c), out); });
  return out;
}

/// Python's str.isprintable() of one character.
bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (utf8proc_category(proc(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

std::string escaped(char32_t c) {
  const auto code = static_cast<uint32_t>(c);
  if (code < 0x100) return fmt::format("\\x{:02x}", code);
  return code < 0x10000 ? fmt::format("\\u{:04x}", code) : fmt::format("\\U{:08x}", code);
}

/// The last code point of `text`, which is not empty.
std::string_view last_character(std::string_view text) {
  size_t start = text.size() - 1;
  while (start > 0 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
  return text.substr(start);
}

}  // namespace

size_t length(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  for_each_code_point(
      text, [&](char32_t, size_t position, size_t size) { out.push_back(text.substr(position, size)); });
  return out;
}

bool is_space(char32_t c) {
  return (c >= 0x1C && c <= 0x1F) || is_white_space(c);
}

std::string_view strip(std::string_view text, Side side, const std::string* set) {
  const auto goes = [&](std::string_view character) {
    return set ? set->find(character) != std::string::npos : is_space(decode_code_point(character).value);
  };
  while (side != Side::kRight && !text.empty()) {
    const std::string_view first = text.substr(0, decode_code_point(text).length);
    if (!goes(first)) break;
    text.remove_prefix(first.size());
  }
  while (side != Side::kLeft && !text.empty()) {
    const std::string_view last = last_character(text);
    if (!goes(last)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::string upper(std::string_view text) {
  return map_characters(text, to_upper);
}
std::string lower(std::string_view text) {
  return map_characters(text, to_lower);
}

std::string capitalize(std::string_view text) {
  bool first = true;
  return map_characters(text,
                        [&](char32_t c) { return std::exchange(first, false) ? to_title(c) : to_lower(c); });
}

std::string title(std::string_view text) {
  bool in_word = false;
  return map_characters(
      text, [&](char32_t c) { return std::exchange(in_word, is_cased(c)) ? to_lower(c) : to_title(c); });
}

std::vector<std::string_view> split(std::string_view text, std::string_view separator, size_t most,
                                    bool from_right) {
  std::vector<std::string_view> parts;
  while (parts.size() < most) {
    const size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == std::string_view::npos) break;
    const std::string_view before = text.substr(0, at), after = text.substr(at + separator.size());
    parts.push_back(from_right ? after : before);
    text = from_right ? before : after;
  }
  parts.push_back(text);
  if (from_right) std::ranges::reverse(parts);
  return parts;
}

std::vector<std::string_view> split_words(std::string_view text, size_t most) {
  std::vector<std::string_view> words;
  text = strip(text, Side::kLeft);
  while (!text.empty() && words.size() < most) {
    size_t end = 0;
    while (end < text.size()) {
      const CodePoint c = decode_code_point(text.substr(end));
      if (is_space(c.value)) break;
      end += c.length;
    }
    words.push_back(text.substr(0, end));
    text = strip(text.substr(end), Side::kLeft);
  }
  if (!text.empty()) words.push_back(text);
  return words;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  constexpr std::u32string_view kEnds = U"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029";
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_code_point(text.substr(i));
    size_t end = i + c.length;
    if (kEnds.find(c.value) != std::u32string_view::npos) {
      if (text.substr(i, 2) == "\r\n") ++end;
      lines.push_back(text.substr(start, (keep_ends ? end : i) - start));
      start = end;
    }
    i = end;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::string in_quotes(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for_each_code_point(text, [&](char32_t c, size_t position, size_t size) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\\' || c == static_cast<char32_t>(quote)) {
      out += '\\';
      out += static_cast<char>(c);
    } else if (is_printable(c)) {
      out += text.substr(position, size);
    } else {
      out += escaped(c);
    }
  });
  out += quote;
  return out;
}

}  // namespace tessera::jinja
