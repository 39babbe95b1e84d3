// What the routes know of the model that is served.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tessera/chat/chat_template.h"
#include "tessera/engine/generator.h"
#include "tessera/model/model.h"
#include "tessera/text/tokenizer.h"

namespace tessera {

/// How an id is written where tokens are listed one by one.
class TokenNames {
 public:
  explicit TokenNames(const Tokenizer& tokenizer);
  /// The text that it adds to a text; "token_id:N" where that is no text of its own (a part of a character),
  /// so that different ids have different names.
  std::string name(int32_t id) const;
  /// The same as UTF-8 bytes; nothing for a part of a character.
  std::optional<std::vector<int>> bytes(int32_t id) const;

 private:
  std::optional<std::string> text(int32_t id) const;

  const Tokenizer& tokenizer_;
  std::vector<int32_t> before_;  ///< of an ordinary word, behind which blanks show
  std::string before_text_;
};

/// Values for what a request leaves open: those of generation_config.json.
struct SamplingDefaults {
  float temperature = 1, top_p = 1, repetition_penalty = 1;
  int64_t top_k = 0;
};
/// Throws Error, naming file and key, when a value is out of range.
SamplingDefaults read_sampling_defaults(const std::filesystem::path& model);

struct ServedModelOptions {
  std::string name = {};           ///< empty: that of the folder
  bool any_name = false;           ///< requests may name whatever they like
  bool bos_before_ids = false;     ///< prompts of ids are evaluated behind a BOS that no answer shows
  std::string template_file = {};  ///< chat template; empty: the model's own
  int64_t max_length = 0;          ///< tokens of prompt and text together; 0: the model's context
};

/// Immutable but in tests; both `model` and `tokenizer` must outlive it.
struct ServedModel {
  ServedModel(const Model& served, const Tokenizer& its_tokenizer, const ServedModelOptions& chosen);

  bool is_called(const std::string& wanted) const;
  /// Throws ApiError 404 when a request asks for another model.
  void check_name(const std::string& wanted) const;

  const Model& model;
  const Tokenizer& tokenizer;
  ServedModelOptions options;
  std::string name, folder, fingerprint;
  int64_t max_length, created;  ///< `created`: Unix time
  SamplingDefaults defaults;
  std::vector<int32_t> ends;
  TokenNames tokens;
  std::unique_ptr<const ChatTemplate> chat;  ///< null: the model has none
};

}  // namespace tessera
