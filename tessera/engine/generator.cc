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

Generator::Generator(Model& model, const Tokenizer& tokenizer)
    : model_(model), tokenizer_(tokenizer), ends_(ends_of_text(model.dir(), tokenizer)) {}

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
  BatchEngine engine(model_,
                     {.max_sequences = 1, .pages = pages_for_sequences(1, longest), .prefix_cache = false});
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
  }
  if (result.finish == FinishReason::kNotFinite) {
    throw Error("{}: the model's logits are not finite; its weights are damaged or overflow",
                model_.dir().string());
  }
  result.decode_seconds = decode->seconds();
  emit(stream.finish());
  return result;
}

}  // namespace tessera
