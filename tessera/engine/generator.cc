// The generation loop.
#include "tessera/engine/generator.h"

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/base/stopwatch.h"
#include "tessera/engine/stop_filter.h"

namespace tessera {
namespace {

constexpr size_t kPromptContext = 16;  // ids that can bear on how the next one is decoded, with room to spare

/// Ids in, text out: decoded as the continuation of a prompt, cut at stop strings, collected and passed on.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, std::span<const int32_t> prompt,
             const std::vector<std::string>& stops, const TextSink& sink)
      : decoder_(tokenizer), filter_(stops), sink_(sink) {
    for (int32_t id : prompt.last(std::min(prompt.size(), kPromptContext))) decoder_.push(id);
  }

  void push(int32_t id) { emit(filter_.push(decoder_.push(id))); }
  void finish() {
    emit(filter_.push(decoder_.finish()));
    emit(filter_.finish());
  }
  bool stopped() const { return filter_.stopped(); }
  std::string text() && { return std::move(text_); }

 private:
  void emit(const std::string& piece) {
    if (piece.empty()) return;
    text_ += piece;
    if (sink_) sink_(piece);
  }

  StreamDecoder decoder_;
  StopFilter filter_;
  const TextSink& sink_;
  std::string text_;
};

}  // namespace

double Generation::decode_rate() const {
  return ids.size() > 1 ? static_cast<double>(ids.size() - 1) / decode_seconds : 0;
}

Generator::Generator(Model& model, const Tokenizer& tokenizer, bool keep_prompts)
    : model_(model), tokenizer_(tokenizer), keep_prompts_(keep_prompts) {
  for (int32_t id : ModelConfig::load(model.dir()).eos_token_ids()) ends_.insert(id);
  if (tokenizer.eos_id()) ends_.insert(*tokenizer.eos_id());
}

BatchEngine& Generator::engine_for(int64_t tokens) {
  if (keep_prompts_ && engine_ && tokens <= engine_tokens_) return *engine_;
  const int64_t most = model_.spec().max_positions + 1;
  engine_tokens_ = std::min(most, keep_prompts_ ? 2 * tokens : tokens);  // a conversation grows
  engine_.reset();                                                       // its memory goes first
  engine_ =
      std::make_unique<BatchEngine>(model_, EngineOptions{.max_sequences = 1,
                                                          .pages = pages_for_sequences(1, engine_tokens_),
                                                          .prefix_cache = keep_prompts_});
  return *engine_;
}

Generation Generator::generate(std::string_view prompt, const GenerateOptions& options,
                               const TextSink& sink) {
  if (prompt.empty()) throw Error("the prompt is empty; give some text to go on from");
  return generate(tokenizer_.encode(prompt, /*add_special_tokens=*/true), options, sink);
}

Generation Generator::generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                               const TextSink& sink) {
  if (options.max_tokens < 1) throw Error("{} tokens to generate; ask for at least one", options.max_tokens);
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  const int64_t longest = std::min(model_.spec().max_positions + 1, prompt_tokens + options.max_tokens);
  BatchEngine& engine = engine_for(longest);
  TextStream stream(tokenizer_, prompt, options.stop, sink);
  Generation result{.prompt_tokens = prompt_tokens};
  std::optional<Stopwatch> decode;
  SequenceId id = 0;

  const Stopwatch prefill;
  id = engine.submit({.prompt = {prompt.begin(), prompt.end()},
                      .sampling = options.sampling,
                      .max_tokens = options.max_tokens,
                      .ends = {ends_.begin(), ends_.end()},
                      .on_token =
                          [&](int32_t token) {
                            if (!decode) {
                              result.prefill_seconds = prefill.seconds();
                              decode.emplace();
                            }
                            result.ids.push_back(token);
                            if (ends_.contains(token)) return;
                            stream.push(token);
                            if (!stream.stopped()) return;
                            result.finish = FinishReason::kStop;
                            engine.cancel(id);
                          },
                      .on_finish = [&](FinishReason reason) { result.finish = reason; }});
  while (engine.step()) {
    if (!options.interrupted || !options.interrupted()) continue;
    result.interrupted = true;
    engine.cancel(id);
  }
  if (result.finish == FinishReason::kNotFinite) {
    throw Error("{}: the model's logits are not finite; its weights are damaged or overflow",
                model_.dir().string());
  }
  if (decode) result.decode_seconds = decode->seconds();
  stream.finish();
  result.text = std::move(stream).text();
  return result;
}

}  // namespace tessera
