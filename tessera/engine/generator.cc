// The generation loop.
#include "tessera/engine/generator.h"

#include "tessera/base/error.h"
#include "tessera/base/stopwatch.h"
#include "tessera/engine/text_stream.h"

namespace tessera {
double Generation::decode_rate() const {
  return ids.size() > 1 ? static_cast<double>(ids.size() - 1) / decode_seconds : 0;
}

std::set<int32_t> ends_of_text(const std::filesystem::path& model_dir, const Tokenizer& tokenizer) {
  const std::vector<int32_t> ids = ModelConfig::load(model_dir).eos_token_ids();
  std::set<int32_t> ends(ids.begin(), ids.end());
  if (tokenizer.eos_id()) ends.insert(*tokenizer.eos_id());
  return ends;
}

Generator::Generator(Model& model, const Tokenizer& tokenizer, bool keep_prompts)
    : model_(model),
      tokenizer_(tokenizer),
      keep_prompts_(keep_prompts),
      ends_(ends_of_text(model.dir(), tokenizer)) {}

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
  TextStream stream(tokenizer_, prompt, options.stop);
  Generation result{.prompt_tokens = prompt_tokens};
  const auto emit = [&](const std::string& piece) {
    result.text += piece;
    if (sink && !piece.empty()) sink(piece);
  };
  std::optional<Stopwatch> decode;
  SequenceId id = 0;

  const Stopwatch prefill;
  id = engine.submit({.prompt = {prompt.begin(), prompt.end()},
                      .sampling = options.sampling,
                      .rules = options.rules,
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
                            emit(stream.push(token));
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
  emit(stream.finish());
  return result;
}

}  // namespace tessera
