// Text from a prompt, streamed.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/engine/batch_engine.h"
#include "tessera/text/tokenizer.h"

namespace tessera {

struct GenerateOptions {
  SamplingOptions sampling = {};
  LogitRules rules = {};
  int64_t max_tokens = 256;
  std::vector<std::string> stop = {};  ///< generation ends before the first of them
  /// Asked after every step; the text ends where it says yes. Empty: nobody asks.
  std::function<bool()> interrupted = {};
};

struct Generation {
  std::string text = {};  ///< what follows the prompt, its blank too; without end-of-text and stop string
  std::vector<int32_t> ids = {};  ///< all that were drawn, the end-of-text token too
  FinishReason finish = FinishReason::kMaxTokens;
  bool interrupted = false;  ///< ended by GenerateOptions::interrupted; `finish` then says nothing
  int64_t prompt_tokens = 0;
  double prefill_seconds = 0;  ///< the prompt, up to the first drawn id
  double decode_seconds = 0;   ///< all ids behind the first

  double prefill_rate() const { return static_cast<double>(prompt_tokens) / prefill_seconds; }
  /// Tokens a second behind the first one; 0 when there was only one.
  double decode_rate() const;
};

/// Ids that end a text: those of config.json, generation_config.json and the tokenizer together.
std::set<int32_t> ends_of_text(const std::filesystem::path& model_dir, const Tokenizer& tokenizer);

/// Receives text as soon as it is certain; pieces are whole UTF-8 sequences.
using TextSink = std::function<void(std::string_view)>;

/// Writes with one model and its tokenizer; both must outlive it. One thread at a time.
class Generator {
 public:
  /// Texts end at ends_of_text(). With `keep_prompts` what a prompt has in common with earlier ones and their
  /// texts is not computed again.
  Generator(Model& model, const Tokenizer& tokenizer, bool keep_prompts = false);

  /// The prompt is tokenized with its BOS. Throws Error when it is empty or longer than the model's context.
  Generation generate(std::string_view prompt, const GenerateOptions& options, const TextSink& sink = {});
  Generation generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                      const TextSink& sink = {});

 private:
  /// An engine that has room for one sequence of `tokens` ids.
  BatchEngine& engine_for(int64_t tokens);

  Model& model_;
  const Tokenizer& tokenizer_;
  const bool keep_prompts_;
  std::set<int32_t> ends_;
  std::unique_ptr<BatchEngine> engine_;
  int64_t engine_tokens_ = 0;  ///< of the longest sequence that fits
};

}  // namespace tessera
