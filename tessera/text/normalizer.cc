// Normalizers. Unicode's normal forms and case mapping come from utf8proc.
#include "tessera/text/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "tessera/text/byte_level.h"
#include "tessera/text/component.h"
#include "tessera/text/split.h"

namespace tessera {
namespace {

Normalizer sequence(const JsonNode& node) {
  std::vector<Normalizer> stages;
  for (const JsonNode& stage : node["normalizers"].items()) stages.push_back(parse_normalizer(stage));
  return [stages](std::string text) {
    for (const Normalizer& stage : stages) text = stage(std::move(text));
    return text;
  };
}

Normalizer prepend(const JsonNode& node) {
  return [prefix = node["prepend"].string()](const std::string& text) {
    return text.empty() ? text : prefix + text;
  };
}

Normalizer replace(const JsonNode& node) {
  return [pattern = parse_pattern(node["pattern"]), content = node["content"].string()](
             const std::string& text) { return replace_all(text, pattern, content); };
}

Normalizer strip(const JsonNode& node) {
  const bool left = node["strip_left"].boolean(), right = node["strip_right"].boolean();
  return [left, right](const std::string& text) {
    const auto visible = find_characters(text, [](char32_t c) { return !is_white_space(c); });
    if (visible.empty()) return left || right ? std::string() : text;
    const size_t begin = left ? visible.front().begin : 0;
    const size_t end = right ? visible.back().end : text.size();
    return text.substr(begin, end - begin);
  };
}

Normalizer lowercase(const JsonNode&) {
  return [](const std::string& text) {
    std::string out;
    out.reserve(text.size());
    for_each_code_point(text, [&](char32_t c, size_t, size_t) {
      if (c == U'\u0130') {
        out += "i\u0307";  // the only letter whose lower case is two characters
      } else {
        append_utf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
      }
    });
    return out;
  };
}

Normalizer byte_level(const JsonNode&) {
  return bytes_to_alphabet;
}

template <int options>
Normalizer normal_form(const JsonNode& node) {
  return [where = node.where()](const std::string& text) {
    utf8proc_uint8_t* mapped = nullptr;
    const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, std::free);
    if (size < 0) throw Error("{}: cannot normalize the text: {}", where, utf8proc_errmsg(size));
    return std::string(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  };
}

}  // namespace

Normalizer parse_normalizer(const JsonNode& node) {
  if (node.is_null()) return [](std::string text) { return text; };
  return make_component<Normalizer>(node, {{"Sequence", sequence},
                                           {"Prepend", prepend},
                                           {"Replace", replace},
                                           {"Strip", strip},
                                           {"Lowercase", lowercase},
                                           {"ByteLevel", byte_level},
                                           {"NFC", normal_form<UTF8PROC_COMPOSE>},
                                           {"NFD", normal_form<UTF8PROC_DECOMPOSE>},
                                           {"NFKC", normal_form<UTF8PROC_COMPOSE | UTF8PROC_COMPAT>},
                                           {"NFKD", normal_form<UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT>}});
}

}  // namespace tessera
