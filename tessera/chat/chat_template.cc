// Where chat templates come from, and what they are given.
#include "tessera/chat/chat_template.h"

#include "tessera/base/atomic_output.h"
#include "tessera/base/json_node.h"
#include "tessera/text/unicode.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using Json = ChatPrompt::Json;
using Templates = std::map<std::string, jinja::Template>;

constexpr const char* kTokenizerConfig = "tokenizer_config.json";

void add(Templates& templates, const std::string& name, std::string_view source, std::string file) {
  templates.insert_or_assign(name, jinja::Template(source, std::move(file)));
}

/// "chat_template": a text, or a list of {"name", "template"}.
Templates read_member(const fs::path& file) {
  Templates templates;
  if (!fs::exists(file)) return templates;
  const nlohmann::json document = read_json(file);
  const JsonNode node = JsonNode(document, file.string())["chat_template"];
  if (node.is_null()) return templates;
  if (node.is_string()) {
    add(templates, "default", node.string(), file.string() + ": chat_template");
    return templates;
  }
  for (const JsonNode& named : node.items()) {
    const std::string& name = named["name"].string();
    add(templates, name, named["template"].string(),
        fmt::format("{}: chat_template '{}'", file.string(), name));
  }
  return templates;
}

/// Every "..._token" that the file names, and the additional ones, under the names that templates use.
void read_special_tokens(const fs::path& file, Json& variables) {
  if (!fs::exists(file)) return;
  const nlohmann::json document = read_json(file);
  const JsonNode root(document, file.string());
  for (const auto& [name, value] : root.object()) {
    if (variables.contains(name)) continue;
    if (name.ends_with("_token") && value.is_string()) variables[name] = value.get<std::string>();
    if (name.ends_with("_token") && value.is_object()) variables[name] = root[name]["content"].string();
    if (name == "additional_special_tokens" && value.is_array()) variables[name] = value;
  }
}

Json special_tokens(const fs::path& model_dir) {
  Json variables = Json::object();
  read_special_tokens(model_dir / kTokenizerConfig, variables);
  read_special_tokens(model_dir / "special_tokens_map.json", variables);
  return variables;
}

}  // namespace

Json chat_message(std::string_view role, std::string_view content) {
  return {{"role", role}, {"content", replace_invalid_utf8(content)}};
}

ChatTemplate::ChatTemplate(Templates templates, Json variables)
    : templates_(std::move(templates)), variables_(std::move(variables)) {
  if (templates_.size() != 1 && !templates_.contains("default"))
    throw Error("of several chat templates none is called 'default'; name one of them so");
}

std::unique_ptr<ChatTemplate> ChatTemplate::load(const fs::path& model_dir) {
  if (const fs::path file = model_dir / "chat_template.jinja"; fs::exists(file))
    return load_file(file, model_dir);
  Templates templates = read_member(model_dir / kTokenizerConfig);
  if (templates.empty()) templates = read_member(model_dir / "chat_template.json");
  if (templates.empty()) return nullptr;
  return std::make_unique<ChatTemplate>(std::move(templates), special_tokens(model_dir));
}

std::unique_ptr<ChatTemplate> ChatTemplate::load_file(const fs::path& file, const fs::path& model_dir) {
  Templates templates;
  add(templates, "default", read_file(file), file.string());
  return std::make_unique<ChatTemplate>(std::move(templates), special_tokens(model_dir));
}

std::string ChatTemplate::render(const ChatPrompt& prompt) const {
  Json variables = variables_;
  variables["tools"] = nullptr;
  variables["documents"] = nullptr;
  variables["messages"] = prompt.messages;
  variables["add_generation_prompt"] = prompt.add_generation_prompt;
  for (const auto& [name, value] : prompt.variables.items()) variables[name] = value;
  const bool has_tools = !variables["tools"].is_null();
  auto chosen = templates_.find(has_tools && templates_.contains("tool_use") ? "tool_use" : "default");
  if (chosen == templates_.end()) chosen = templates_.begin();
  return chosen->second.render(variables, prompt.now.value_or(std::time(nullptr)));
}

std::unique_ptr<ChatTemplate> require_chat_template(const fs::path& model_dir, const fs::path& file,
                                                    std::string_view option) {
  if (!file.empty()) return ChatTemplate::load_file(file, model_dir);
  if (auto own = ChatTemplate::load(model_dir)) return own;
  throw Error(
      "{}: this model has no chat template (no chat_template.jinja, none in {}); give one with {} FILE, or "
      "use "
      "the model without chat",
      model_dir.string(), kTokenizerConfig, option);
}

}  // namespace tessera
