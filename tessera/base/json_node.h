// The one reader of JSON files: limits against hostile documents, and values that know their file and their
// place in it, so that a complaint can name both.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {

/// Largest document: the limit of safetensors headers; tokenizers of 256k entries have 35 MB.
inline constexpr size_t kMaxJsonBytes = 100'000'000;
/// Deepest nesting: real files nest 8 deep; none may exhaust the stack.
inline constexpr int kMaxJsonDepth = 64;

/// Throws Error (file and reason) when `text`, the content of `file`, is not JSON or passes a limit.
/// NaN, Infinity and -Infinity, which Python writes, are read as numbers; no reader of a JsonNode lets them
/// pass.
nlohmann::json parse_json(std::string_view text, const std::string& file);
/// The same with the members of objects in their order.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& file);
/// The same for a file on disk; Error too when it cannot be read.
nlohmann::json read_json(const std::filesystem::path& path);

/// `value` as JSON. Bytes that are not UTF-8, as paths may hold, become U+FFFD.
template <class Json>
std::string json_text(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

/// A view: the document must outlive it. The readers throw Error when the value has another type.
class JsonNode {
 public:
  /// `file` opens every message.
  JsonNode(const nlohmann::json& value, std::string file) : value_(&value), file_(std::move(file)) {}

  /// The member `key` of an object; a null node when it is absent.
  JsonNode operator[](std::string_view key) const;
  /// The elements of an array.
  std::vector<JsonNode> items() const;
  /// The members of an object.
  std::vector<std::pair<std::string, JsonNode>> members() const;

  const nlohmann::json& value() const { return *value_; }
  bool is_null() const { return value_->is_null(); }
  bool is_string() const { return value_->is_string(); }
  bool is_array() const { return value_->is_array(); }
  const nlohmann::json::object_t& object() const;
  const std::string& string() const;
  bool boolean() const;
  /// A finite number of [low, high].
  double number(double low = std::numeric_limits<double>::lowest(),
                double high = std::numeric_limits<double>::max()) const;
  /// An integer of [low, high], at most INT64_MAX.
  template <std::integral T>
  T integer(T low = std::numeric_limits<T>::min(), T high = std::numeric_limits<T>::max()) const {
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
    return static_cast<T>(integer_in(static_cast<int64_t>(low),
                                     std::cmp_less(high, kMost) ? static_cast<int64_t>(high) : kMost));
  }

  /// The reader for T: bool, an integer, a float, a string, or a vector of one of these.
  template <class T>
  T get() const;
  /// A value that may be absent or null.
  template <class T>
  T get_or(T fallback) const {
    return is_null() ? std::move(fallback) : get<T>();
  }
  /// What the string stands for.
  template <class T>
  T choice(std::initializer_list<std::pair<const char*, T>> choices) const;
  /// Throws Error when the object has other keys than these.
  void expect_keys(std::initializer_list<std::string_view> known) const;

  /// "file: place", to open an error.
  std::string where() const { return place_.empty() ? file_ : file_ + ": " + place_; }
  /// The value as JSON, cut when it is long, to be quoted in an error.
  std::string shown() const;

  /// Throws Error: file, place, message.
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error("{}: {}", where(), fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  JsonNode child(const nlohmann::json& value, std::string place) const;
  int64_t integer_in(int64_t low, int64_t high) const;
  [[noreturn]] void fail_type(const char* expected) const;

  const nlohmann::json* value_;
  std::string file_, place_;
};

template <class T>
T JsonNode::get() const {
  if constexpr (std::is_same_v<T, bool>) {
    return boolean();
  } else if constexpr (std::is_integral_v<T>) {
    return integer<T>();
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(number(std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max()));
  } else if constexpr (std::is_same_v<T, std::string>) {
    return string();
  } else {
    T values;
    for (const JsonNode& item : items()) values.push_back(item.get<typename T::value_type>());
    return values;
  }
}

template <class T>
T JsonNode::choice(std::initializer_list<std::pair<const char*, T>> choices) const {
  const std::string& text = string();
  std::string known;
  for (const auto& [name, value] : choices) {
    if (text == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  fail("{} is not one of {}", shown(), known);
}

}  // namespace tessera
