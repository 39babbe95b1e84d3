// Generation with the bundled demonstration model.
#include "tessera/engine/generator.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tessera/base/atomic_output.h"
#include "tessera/base/test_paths.h"
#include "tessera/engine/text_stream.h"
#include "tessera/kernels/backends.h"

namespace tessera {
namespace {

class GeneratorTest : public testing::Test {
 protected:
  std::filesystem::path dir_ = std::filesystem::path(TESSERA_SOURCE_DIR) / "models/demo-llama";
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
  std::unique_ptr<Model> model_ = Model::load(dir_, *backend_);
  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::load(dir_);
  Generator generator_{*model_, *tokenizer_};
  nlohmann::json golden_ = nlohmann::json::parse(read_file(dir_ / "golden.json"))["prompts"][0];
  std::string prompt_ = golden_["text"];
  /// Decoded alone, as the golden text was, a text loses the blank before its first word.
  std::string text_ = " " + golden_["greedy_text"].get<std::string>();
};

TEST_F(GeneratorTest, GreedyTextIsTheGoldenOneAndStreamsAsItComes) {
  std::string streamed;
  int pieces = 0;
  const Generation g = generator_.generate(prompt_, {.max_tokens = 32}, [&](std::string_view piece) {
    streamed += piece;
    ++pieces;
  });
  EXPECT_EQ(g.text, text_);
  EXPECT_EQ(streamed, g.text);
  EXPECT_GT(pieces, 10);
  EXPECT_EQ(g.ids, golden_["greedy_ids"].get<std::vector<int32_t>>());
  EXPECT_EQ(g.finish, FinishReason::kMaxTokens);
  EXPECT_EQ(g.prompt_tokens, static_cast<int64_t>(golden_["ids"].size()));
  EXPECT_GT(g.prefill_rate(), 0);
  EXPECT_GT(g.decode_rate(), 0);
}

TEST_F(GeneratorTest, StopStringsEndTheText) {
  const Generation g = generator_.generate(prompt_, {.max_tokens = 32, .stop = {"New York"}});
  EXPECT_EQ(g.finish, FinishReason::kStop);
  EXPECT_EQ(g.text, text_.substr(0, text_.find("New York")));
}

TEST_F(GeneratorTest, AnInterruptionEndsTheText) {
  int steps = 0;
  const Generation g =
      generator_.generate(prompt_, {.max_tokens = 32, .interrupted = [&] { return ++steps == 5; }});
  EXPECT_TRUE(g.interrupted);
  EXPECT_EQ(g.ids.size(), 5u);
  EXPECT_TRUE(text_.starts_with(g.text));
  EXPECT_TRUE(
      generator_.generate(prompt_, {.max_tokens = 4, .interrupted = [] { return true; }}).interrupted);
}

TEST_F(GeneratorTest, KeptPromptsGiveTheSameTexts) {
  Generator keeping(*model_, *tokenizer_, /*keep_prompts=*/true);
  std::string conversation = prompt_;
  for (int turn = 0; turn < 3; ++turn) {
    const Generation g = keeping.generate(conversation, {.max_tokens = 40});
    EXPECT_EQ(g.text, generator_.generate(conversation, {.max_tokens = 40}).text);
    conversation += g.text + " And then";
  }
  EXPECT_EQ(keeping.generate(prompt_, {.max_tokens = 32}).text, text_);
}

TEST_F(GeneratorTest, PromptAndTextReadOn) {
  const std::vector<int32_t> prompt = golden_["ids"];
  const Generation g = generator_.generate(prompt, {.max_tokens = 8});
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), g.ids.begin(), g.ids.end());
  EXPECT_EQ(prompt_ + g.text, tokenizer_->decode(all, /*skip_special=*/true));
}

TEST_F(GeneratorTest, EndOfTextEndsAndShowsNothing) {
  const int32_t end = *tokenizer_->eos_id();
  std::vector<int32_t> prompt = golden_["ids"];
  // Sampled hot, an end of text comes up sooner or later; it must be the last id.
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const GenerateOptions options{.sampling = {.temperature = 50, .seed = seed}, .max_tokens = 40};
    const Generation g = generator_.generate(prompt, options);
    const auto at = std::find(g.ids.begin(), g.ids.end(), end);
    EXPECT_EQ(g.finish == FinishReason::kEndOfText, at != g.ids.end());
    if (at != g.ids.end()) {
      EXPECT_EQ(at + 1, g.ids.end());
    }
  }
}

/// A stop that is one special token matches by its id: its text is never seen.
TEST_F(GeneratorTest, ASpecialTokenStopsTheText) {
  const std::vector<int32_t> prompt = golden_["ids"], ids = golden_["greedy_ids"];
  TextStream stream(*tokenizer_, prompt, {"<unk>"});
  std::string text;
  for (int32_t id : ids) text += stream.push(id);
  EXPECT_FALSE(stream.stopped());
  text += stream.push(*tokenizer_->special_id("<unk>"));
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(text + stream.finish(), text_);
}

TEST_F(GeneratorTest, TheContextEndsTheTextAndLimitsThePrompt) {
  const int64_t context = model_->spec().max_positions;
  const std::vector<int32_t> full(static_cast<size_t>(context), 300);
  const std::vector<int32_t> almost(static_cast<size_t>(context) - 3, 300);
  Generation g = generator_.generate(almost, {.max_tokens = 100});
  EXPECT_EQ(g.finish, FinishReason::kContextFull);
  EXPECT_EQ(g.ids.size(), 4u);
  EXPECT_EQ(generator_.generate(full, {.max_tokens = 100}).ids.size(), 1u);
  EXPECT_THROW(generator_.generate(std::vector<int32_t>(full.size() + 1, 300), {}), Error);
}

TEST_F(GeneratorTest, BadRequestsAreRefused) {
  EXPECT_THROW(generator_.generate("", {}), Error);
  EXPECT_THROW(generator_.generate(std::vector<int32_t>{}, {}), Error);
  EXPECT_THROW(generator_.generate("text", {.max_tokens = 0}), Error);
}

}  // namespace
}  // namespace tessera
