// JsonNode: typed access with errors that name the place.
#include "tessera/base/json_node.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

#include "tessera/base/atomic_output.h"

namespace tessera {

using nlohmann::json;

namespace {

/// Words of Python's JSON that JSON does not know, and the numbers that they stand for.
struct PythonNumber {
  std::string_view word;
  double value;
};
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr PythonNumber kPythonNumbers[] = {
    {"NaN", std::numeric_limits<double>::quiet_NaN()}, {"-Infinity", -kInfinity}, {"Infinity", kInfinity}};
constexpr char kMark = '\1';  ///< opens a string that stands for one of them

/// `text` with these words as marked strings.
std::string without_python_numbers(std::string_view text) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto found = std::ranges::find_if(
        kPythonNumbers, [&](const PythonNumber& number) { return text.substr(i).starts_with(number.word); });
    if (!in_string && found != std::end(kPythonNumbers)) {
      out += fmt::format("\"\\u{:04x}{}\"", kMark, found->word);
      i += found->word.size() - 1;
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    out += text[i];
    if (in_string && text[i] == '\\' && i + 1 < text.size()) out += text[++i];
  }
  return out;
}

template <class Json>
void restore_python_number(Json& value) {
  const auto& text = value.template get_ref<const std::string&>();
  if (text.empty() || text.front() != kMark) return;
  const auto found = std::ranges::find(kPythonNumbers, std::string_view(text).substr(1), &PythonNumber::word);
  if (found != std::end(kPythonNumbers)) value = found->value;
}

template <class Json>
Json parse(std::string_view text, const std::string& file) {
  using Event = typename Json::parse_event_t;
  if (text.size() > kMaxJsonBytes)
    throw Error("{}: {} bytes of JSON are more than the {} that are read", file, text.size(), kMaxJsonBytes);
  const auto check = [&](int depth, Event event, Json& value) {
    const bool opens = event == Event::object_start || event == Event::array_start;
    if (opens && depth >= kMaxJsonDepth)
      throw Error("{}: nested more than {} levels deep", file, kMaxJsonDepth);
    if (event == Event::value && value.is_string()) restore_python_number(value);
    return true;
  };
  const bool python =
      text.find("NaN") != std::string_view::npos || text.find("Infinity") != std::string_view::npos;
  try {
    return python ? Json::parse(without_python_numbers(text), check) : Json::parse(text, check);
  } catch (const nlohmann::json::exception& e) {
    throw Error("{}: not valid JSON: {}", file, e.what());
  }
}

}  // namespace

json parse_json(std::string_view text, const std::string& file) {
  return parse<json>(text, file);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& file) {
  return parse<nlohmann::ordered_json>(text, file);
}

json read_json(const std::filesystem::path& path) {
  return parse_json(read_file(path), path.string());
}

JsonNode JsonNode::child(const json& value, std::string place) const {
  JsonNode node(value, file_);
  node.place_ = std::move(place);
  return node;
}

JsonNode JsonNode::operator[](std::string_view key) const {
  static const json null;
  const auto& all = object();
  const auto member = all.find(key);
  return child(member == all.end() ? null : member->second,
               place_.empty() ? std::string(key) : fmt::format("{}.{}", place_, key));
}

std::vector<JsonNode> JsonNode::items() const {
  if (!is_array()) fail_type("an array");
  std::vector<JsonNode> nodes;
  for (const json& item : *value_) nodes.push_back(child(item, fmt::format("{}[{}]", place_, nodes.size())));
  return nodes;
}

std::vector<std::pair<std::string, JsonNode>> JsonNode::members() const {
  std::vector<std::pair<std::string, JsonNode>> nodes;
  for (const auto& [key, member] : object()) nodes.emplace_back(key, (*this)[key]);
  return nodes;
}

const json::object_t& JsonNode::object() const {
  if (!value_->is_object()) fail_type("an object");
  return value_->get_ref<const json::object_t&>();
}

const std::string& JsonNode::string() const {
  if (!is_string()) fail_type("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) fail_type("true or false");
  return value_->get<bool>();
}

double JsonNode::number(double low, double high) const {
  if (!value_->is_number()) fail_type("a number");
  const auto number = value_->get<double>();
  if (!(number >= low && number <= high)) fail("{} is outside {}..{}", shown(), low, high);
  return number;
}

int64_t JsonNode::integer_in(int64_t low, int64_t high) const {
  if (!value_->is_number_integer()) fail_type("an integer");
  // Numbers above INT64_MAX are stored unsigned and would wrap.
  const bool huge = value_->is_number_unsigned() && value_->get<uint64_t>() > uint64_t{INT64_MAX};
  const auto number = value_->get<int64_t>();
  if (huge || number < low || number > high) fail("{} is outside {}..{}", shown(), low, high);
  return number;
}

void JsonNode::expect_keys(std::initializer_list<std::string_view> known) const {
  for (const auto& [key, member] : object()) {
    if (std::ranges::find(known, key) == known.end())
      fail("unknown key '{}' (known: {})", key, fmt::join(known, ", "));
  }
}

std::string JsonNode::shown() const {
  constexpr size_t kLongest = 80;
  const std::string text = json_text(*value_);
  if (text.size() <= kLongest) return text;
  return text.substr(0, kLongest) + "...";
}

void JsonNode::fail_type(const char* expected) const {
  fail("expected {}, found {}", expected, is_null() ? "nothing" : value_->type_name());
}

}  // namespace tessera
