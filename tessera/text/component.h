// What the readers of tokenizer.json's components share.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "tessera/base/json_node.h"
#include "tessera/text/unicode.h"

namespace tessera {

/// Builds the component of a tokenizer that `node` describes: its "type" chooses the maker.
template <class Component>
Component make_component(const JsonNode& node,
                         const std::map<std::string_view, Component (*)(const JsonNode&)>& makers) {
  const std::string& type = node["type"].string();
  const auto maker = makers.find(type);
  if (maker == makers.end()) node.fail("components of type '{}' are not supported", type);
  return maker->second(node);
}

/// A string of one character.
inline const std::string& one_character(const JsonNode& node) {
  const std::string& text = node.string();
  if (text.empty() || decode_code_point(text).length != text.size())
    node.fail("expected one character, found '{}'", text);
  return text;
}

}  // namespace tessera
