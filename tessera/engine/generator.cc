// The generation loop.
#include "tessera/engine/generator.h"

#include <algorithm>
#include <chrono>

#include "tessera/engine/stop_filter.h"

namespace tessera {
namespace {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

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

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndOfText:
      return "end of text";
    case FinishReason::kStop:
      return "stop string";
    case FinishReason::kMaxTokens:
      return "token limit";
    case FinishReason::kContextFull:
      return "context full";
  }
  return "";
}

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
  KvCache cache =
      model_.make_cache(std::min(model_.spec().max_positions, prompt_tokens + options.max_tokens));
  Sampler sampler(options.sampling);
  TextStream stream(tokenizer_, prompt, options.stop, sink);
  Generation result{.prompt_tokens = prompt_tokens};

  const Stopwatch prefill;
  int32_t id = sampler.sample(model_.forward(prompt, cache));
  result.prefill_seconds = prefill.seconds();
  const Stopwatch decode;
  while (true) {
    result.ids.push_back(id);
    if (ends_.contains(id)) {
      result.finish = FinishReason::kEndOfText;
      break;
    }
    stream.push(id);
    if (stream.stopped()) {
      result.finish = FinishReason::kStop;
      break;
    }
    if (static_cast<int64_t>(result.ids.size()) == options.max_tokens) break;
    if (cache.length == cache.capacity) {
      result.finish = FinishReason::kContextFull;
      break;
    }
    id = sampler.sample(model_.forward({&id, 1}, cache));
  }
  result.decode_seconds = decode.seconds();
  stream.finish();
  result.text = std::move(stream).text();
  return result;
}

}  // namespace tessera
