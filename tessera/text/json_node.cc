// JsonNode: typed access with errors that name the place.
#include "tessera/text/json_node.h"

#include "tessera/base/atomic_output.h"

namespace tessera {

using nlohmann::json;

json parse_json(const std::string& text, const std::string& file) {
  try {
    return json::parse(text);
  } catch (const json::exception& e) {
    throw Error("{}: not valid JSON: {}", file, e.what());
  }
}

json read_json(const std::filesystem::path& path) {
  return parse_json(read_file(path), path.string());
}

JsonNode JsonNode::child(const json& value, std::string place) const {
  constexpr int kMaxDepth = 64;  // real tokenizers nest 4 deep; a file must not exhaust the stack
  JsonNode node(value, file_);
  node.place_ = std::move(place);
  node.depth_ = depth_ + 1;
  if (node.depth_ > kMaxDepth) throw Error("{}: nested more than {} levels deep", file_, kMaxDepth);
  return node;
}

JsonNode JsonNode::operator[](std::string_view key) const {
  static const json null;
  const auto& members = object();
  const auto member = members.find(key);
  return child(member == members.end() ? null : member->second,
               place_.empty() ? std::string(key) : fmt::format("{}.{}", place_, key));
}

std::vector<JsonNode> JsonNode::items() const {
  if (!value_->is_array()) fail("expected an array, found {}", value_->type_name());
  std::vector<JsonNode> nodes;
  for (const json& value : *value_)
    nodes.push_back(child(value, fmt::format("{}[{}]", place_, nodes.size())));
  return nodes;
}

const json::object_t& JsonNode::object() const {
  if (!value_->is_object()) fail("expected an object, found {}", value_->type_name());
  return value_->get_ref<const json::object_t&>();
}

const std::string& JsonNode::string() const {
  if (!value_->is_string()) fail("expected a string, found {}", value_->type_name());
  return value_->get_ref<const std::string&>();
}

char32_t JsonNode::character() const {
  const std::string& text = string();
  if (!text.empty()) {
    const CodePoint c = decode_code_point(text);
    if (c.length == text.size()) return c.value;
  }
  fail("expected one character, found '{}'", text);
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) fail("expected true or false, found {}", value_->type_name());
  return value_->get<bool>();
}

int32_t JsonNode::integer(int32_t limit) const {
  if (!value_->is_number_integer()) fail("expected an integer, found {}", value_->type_name());
  // Numbers above INT64_MAX are stored unsigned and would wrap.
  const bool huge = value_->is_number_unsigned() && value_->get<uint64_t>() > INT32_MAX;
  if (huge || value_->get<int64_t>() < 0 || value_->get<int64_t>() >= limit) {
    fail("{} is not in [0, {})", value_->dump(), limit);
  }
  return value_->get<int32_t>();
}

}  // namespace tessera
