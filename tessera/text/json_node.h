// A JSON value that knows its file and its place in it, so that a complaint can name both.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/text/unicode.h"

namespace tessera {

/// Throws Error (file and reason) when `text`, the content of `file`, is not JSON.
nlohmann::json parse_json(const std::string& text, const std::string& file);
/// The same for a file on disk; Error too when it cannot be read.
nlohmann::json read_json(const std::filesystem::path& path);

/// A view: the document must outlive it. The readers throw Error when the value has another type.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string file) : value_(&value), file_(std::move(file)) {}

  /// The member `key` of an object; a null node when it is absent.
  JsonNode operator[](std::string_view key) const;
  /// The elements of an array.
  std::vector<JsonNode> items() const;

  bool is_null() const { return value_->is_null(); }
  bool is_string() const { return value_->is_string(); }
  const nlohmann::json::object_t& object() const;
  const std::string& string() const;
  /// A string of one character.
  char32_t character() const;
  bool boolean() const;
  /// A value that may be absent or null.
  bool boolean_or(bool fallback) const { return is_null() ? fallback : boolean(); }
  /// An integer of [0, limit).
  int32_t integer(int32_t limit) const;

  /// "file: place", to open an error.
  std::string where() const { return place_.empty() ? file_ : file_ + ": " + one_line(place_); }

  /// Throws Error: file, place, message.
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error("{}: {}", where(), one_line(fmt::format(format, std::forward<Args>(args)...)));
  }

 private:
  JsonNode child(const nlohmann::json& value, std::string place) const;

  const nlohmann::json* value_;
  std::string file_, place_;
  int depth_ = 0;
};

/// Builds the component of a tokenizer that `node` describes: its "type" chooses the maker.
template <class Component>
Component make_component(const JsonNode& node,
                         const std::map<std::string_view, Component (*)(const JsonNode&)>& makers) {
  const std::string& type = node["type"].string();
  const auto maker = makers.find(type);
  if (maker == makers.end()) node.fail("components of type '{}' are not supported", type);
  return maker->second(node);
}

}  // namespace tessera
