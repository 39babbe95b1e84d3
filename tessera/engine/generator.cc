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

Generator::Generator(Model& model, const Tokenizer& tokenizer) : model_(model), tokenizer_(tokenizer) {
  for (int32_t id : ModelConfig::load(model.dir()).eos_token_ids()) ends_.insert(id);
  if (tokenizer.eos_id()) ends_.insert(*tokenizer.eos_id());
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
  BatchEngine engine(model_,
                     {.max_sequences = 1, .pages = pages_for_sequences(1, longest), .prefix_cache = false});
  TextStream stream(tokenizer_, prompt, options.stop, sink);
  Generation result{.prompt_tokens = prompt_tokens};
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
                            stream.push(token);
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
  stream.finish();
  result.text = std::move(stream).text();
  return result;
}

}  // namespace tessera
