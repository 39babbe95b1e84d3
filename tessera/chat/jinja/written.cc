// Printing of values; JSON both ways.
#include "tessera/chat/jinja/written.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/text.h"
#include "tessera/text/unicode.h"

namespace tessera::jinja {
namespace {

std::string repr(const Value& value);

std::string repr_items(const std::vector<Value>& items) {
  std::string out;
  for (const Value& item : items) {
    if (!out.empty()) out += ", ";
    out += repr(item);
  }
  return out;
}

std::string repr_list(const List& list) {
  const std::string items = repr_items(list.items);
  if (!list.is_tuple) return fmt::format("[{}]", items);
  return fmt::format("({}{})", items, list.items.size() == 1 ? "," : "");
}

std::string repr_dict(const Dict& dict) {
  std::string out;
  for (const auto& [key, value] : dict.entries()) {
    if (!out.empty()) out += ", ";
    out += repr(key) + ": " + repr(value);
  }
  return fmt::format("{{{}}}", out);
}

/// Everything but text, which str() and repr() write differently.
std::string repr(const Value& value) {
  if (const std::string* text = value.text()) return in_quotes(*text);
  if (const List* list = value.list()) return repr_list(*list);
  if (const Dict* dict = value.dict()) return repr_dict(*dict);
  if (const bool* boolean = value.boolean()) return *boolean ? "True" : "False";
  if (value.is_none()) return "None";
  if (value.is_undefined()) return "Undefined";
  if (const auto* number = std::get_if<double>(&value.data())) return float_text(*number);
  if (const auto integer = integer_of(value)) return fmt::to_string(*integer);
  if (const BoundMethod* method = value.method())
    return fmt::format("<method {} of {}>", method->name, method->self.type_name());
  return fmt::format("<{}>", value.type_name());
}

/// Writes JSON; text is spent as it grows.
class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  void write(const Value& value) {
    if (const std::string* text = value.text()) {
      write_text(*text);
    } else if (const List* list = value.list()) {
      write_list(*list);
    } else if (const Dict* dict = value.dict()) {
      write_dict(*dict);
    } else {
      out_ += scalar(value);
    }
  }

  std::string take() { return std::move(out_); }

 private:
  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (const bool* boolean = value.boolean()) return *boolean ? "true" : "false";
    if (const auto integer = integer_of(value)) return fmt::to_string(*integer);
    if (const auto* number = std::get_if<double>(&value.data())) {
      if (std::isnan(*number)) return "NaN";
      return std::isinf(*number) ? (*number < 0 ? "-Infinity" : "Infinity") : float_text(*number);
    }
    throw Failure("Object of type {} is not JSON serializable", value.type_name());
  }

  void write_text(const std::string& text) {
    runtime_.budget.spend_text(text.size());
    out_ += Json(text).dump(-1, ' ', style_.ensure_ascii, Json::error_handler_t::replace);
  }

  void write_list(const List& list) {
    if (list.items.empty()) {
      out_ += "[]";
      return;
    }
    open('[');
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) separate();
      write(list.items[i]);
    }
    close(']');
  }

  static std::string key_text(const Value& key) {
    if (const std::string* text = key.text()) return *text;
    if (key.list()) throw Failure("keys must be str, int, float, bool or None, not {}", key.type_name());
    return scalar(key);
  }

  void write_dict(const Dict& dict) {
    if (dict.entries().empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys)
      std::ranges::stable_sort(entries,
                               [](const auto* a, const auto* b) { return order(a->first, b->first) < 0; });
    open('{');
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) separate();
      write_text(key_text(entries[i]->first));
      out_ += style_.key_separator;
      write(entries[i]->second);
    }
    close('}');
  }

  void open(char bracket) {
    out_ += bracket;
    ++level_;
    new_line();
  }
  void separate() {
    out_ += style_.item_separator;
    new_line();
  }
  void close(char bracket) {
    --level_;
    new_line();
    out_ += bracket;
  }
  void new_line() {
    runtime_.budget.spend(1);
    if (!style_.indent) return;
    runtime_.budget.spend_text(style_.indent->size() * level_);
    out_ += '\n';
    for (size_t i = 0; i < level_; ++i) out_ += *style_.indent;
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
  size_t level_ = 0;
};

Value from_json_array(const Json& json, int depth) {
  List list;
  for (const Json& item : json) list.items.push_back(from_json(item, depth + 1));
  return list;
}

Value from_json_object(const Json& json, int depth) {
  Dict dict;
  for (const auto& [key, value] : json.items()) dict.set(Value(key), from_json(value, depth + 1));
  return dict;
}

}  // namespace

std::string float_text(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char digits[32];
  const double size = std::fabs(number);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);  // where Python writes no exponent
  const auto end = std::to_chars(digits, digits + sizeof digits, number,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific)
                       .ptr;
  std::string text(digits, end);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string printed(Runtime& runtime, const Value& value) {
  if (const std::string* text = value.text()) return *text;
  if (value.is_undefined()) {
    if (runtime.strict) require_defined(value);
    return "";
  }
  runtime.budget.spend(value.extent().weight);
  return repr(value);
}

Value from_json(const Json& json, int depth) {
  if (depth > kMaxDepth) throw Failure("JSON is nested more than {} deep", kMaxDepth);
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<int64_t>();
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) return static_cast<double>(json.get<uint64_t>());
      return json.get<int64_t>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return json.get<std::string>();
    case Json::value_t::array:
      return from_json_array(json, depth);
    case Json::value_t::object:
      return from_json_object(json, depth);
    default:
      return None{};
  }
}

std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  runtime.budget.spend(value.extent().weight);
  JsonWriter writer(runtime, style);
  writer.write(value);
  return writer.take();
}

}  // namespace tessera::jinja
