// Messages to the text that a chat model was trained on.
#pragma once

#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tessera/chat/jinja/template.h"

namespace tessera {

/// A conversation to be written out.
struct ChatPrompt {
  /// JSON whose objects keep their order: templates print what they are given.
  using Json = nlohmann::ordered_json;

  Json messages = Json::array();      ///< objects with "role" and "content", and what else the template reads
  bool add_generation_prompt = true;  ///< ends with the beginning of the assistant's answer
  Json variables = Json::object();    ///< more variables, such as "tools"; these win over all others
  std::optional<std::time_t> now = {};  ///< for templates that print the date; nothing: the clock
};

/// A message of these; the content is read as UTF-8.
ChatPrompt::Json chat_message(std::string_view role, std::string_view content);

/// The chat template of a model. Immutable: any number of threads may use one at the same time.
class ChatTemplate {
 public:
  /// Of a model, a folder or a GGUF file: chat_template.jinja, else "chat_template" of tokenizer_config.json
  /// (a text, or named ones), else chat_template.json. Null when none of them has one. Throws Error, naming
  /// the file, when one is broken.
  static std::unique_ptr<ChatTemplate> load(const std::filesystem::path& model);
  /// From a file of its own; the special tokens are those of the model.
  static std::unique_ptr<ChatTemplate> load_file(const std::filesystem::path& file,
                                                 const std::filesystem::path& model);

  /// `templates` by name, with a "default" or a single one; a "tool_use" serves prompts with tools.
  /// `variables` are those of every prompt, such as "bos_token".
  ChatTemplate(std::map<std::string, jinja::Template> templates, ChatPrompt::Json variables);

  /// The text, to be encoded without adding special tokens: the template writes them. Throws Error: in the
  /// template's own words when it refuses the messages (raise_exception), else naming line and column.
  std::string render(const ChatPrompt& prompt) const;

 private:
  std::map<std::string, jinja::Template> templates_;
  ChatPrompt::Json variables_;
};

/// The template of `file`, or where that is empty the model's own. Throws Error, saying what to do, when the
/// model has none; `option` is how the caller's user names a file.
std::unique_ptr<ChatTemplate> require_chat_template(const std::filesystem::path& model,
                                                    const std::filesystem::path& file,
                                                    std::string_view option);

}  // namespace tessera
