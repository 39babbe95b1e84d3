// Whoever answers in a chat: a model of this process, or a server.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tessera/chat/chat_template.h"
#include "tessera/engine/generator.h"
#include "tessera/program/loaded_model.h"

namespace tessera {

struct ChatAnswer {
  std::string text = {};
  std::string ended_by = {};  ///< such as "end of text"
  int64_t tokens = 0;
  double tokens_per_second = 0;  ///< 0: not known
};

class ChatPartner {
 public:
  virtual ~ChatPartner() = default;
  /// Who it is, in a line.
  virtual std::string name() const = 0;
  /// The answer to the conversation, whose pieces go to `sink` as they come. It ends early when
  /// `options.interrupted` says so. Throws Error, after which another conversation may be tried.
  virtual ChatAnswer answer(const ChatPrompt::Json& messages, const GenerateOptions& options,
                            const TextSink& sink) = 0;
};

/// A model folder, loaded into this process. `template_file` empty: the model's own template.
std::unique_ptr<ChatPartner> local_partner(const std::string& model_dir, const DeviceOption& device,
                                           const KvOption& kv, const std::string& template_file,
                                           Reporter& reporter);
/// A server of OpenAI's API, such as `tessera serve`, by its address: "http://127.0.0.1:8000". Its key is in
/// TESSERA_API_KEY or OPENAI_API_KEY.
std::unique_ptr<ChatPartner> remote_partner(const std::string& url);

}  // namespace tessera
