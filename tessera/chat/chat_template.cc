// Where chat templates come from, and what they are given.
#include "tessera/chat/chat_template.h"

#include "tessera/base/atomic_output.h"
#include "tessera/base/json_node.h"
#include "tessera/source/model_files.h"
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
Templates read_member(const ModelFiles& files, const char* file) {
  Templates templates;
  if (!files.contains(file)) return templates;
  const std::string where = files.where(file);
  const nlohmann::json document = files.json(file);
  const JsonNode node = JsonNode(document, where)["chat_template"];
  if (node.is_null()) return templates;
  if (node.is_string()) {
    add(templates, "default", node.string(), where + ": chat_template");
    return templates;
  }
  for (const JsonNode& named : node.items()) {
    const std::string& name = named["name"].string();
    add(templates, name, named["template"].string(), fmt::format("{}: chat_template '{}'", where, name));
  }
  return templates;
}

/// Every "..._token" that the file names, and the additional ones, under the names that templates use.
void read_special_tokens(const ModelFiles& files, const char* file, Json& variables) {
  if (!files.contains(file)) return;
  const nlohmann::json document = files.json(file);
  const JsonNode root(document, files.where(file));
  for (const auto& [name, value] : root.object()) {
    if (variables.contains(name)) continue;
    if (name.ends_with("_token") && value.is_string()) variables[name] = value.get<std::string>();
    if (name.ends_with("_token") && value.is_object()) variables[name] = root[name]["content"].string();
    if (name == "additional_special_tokens" && value.is_array()) variables[name] = value;
  }
}

Json special_tokens(const ModelFiles& files) {
  Json variables = Json::object();
  read_special_tokens(files, kTokenizerConfig, variables);
  read_special_tokens(files, "special_tokens_map.json", variables);
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

std::unique_ptr<ChatTemplate> ChatTemplate::load(const fs::path& model) {
  constexpr const char* kOwnFile = "chat_template.jinja";
  const ModelFiles files(model);
  Templates templates;
  if (files.contains(kOwnFile)) {
    add(templates, "default", files.read(kOwnFile), files.where(kOwnFile));
  } else {
    templates = read_member(files, kTokenizerConfig);
    if (templates.empty()) templates = read_member(files, "chat_template.json");
  }
  if (templates.empty()) return nullptr;
  return std::make_unique<ChatTemplate>(std::move(templates), special_tokens(files));
}

std::unique_ptr<ChatTemplate> ChatTemplate::load_file(const fs::path& file, const fs::path& model) {
  Templates templates;
  add(templates, "default", read_file(file), file.string());
  return std::make_unique<ChatTemplate>(std::move(templates), special_tokens(ModelFiles(model)));
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

std::unique_ptr<ChatTemplate> require_chat_template(const fs::path& model, const fs::path& file,
                                                    std::string_view option) {
  if (!file.empty()) return ChatTemplate::load_file(file, model);
  if (auto own = ChatTemplate::load(model)) return own;
  throw Error(
      "{}: this model has no chat template (no chat_template.jinja, none in {}); give one with {} FILE, or "
      "use "
      "the model without chat",
      model.string(), kTokenizerConfig, option);
}

}  // namespace tessera
