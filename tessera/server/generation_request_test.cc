// Requests as clients send them, good and bad; and the text of a choice.
#include "tessera/server/generation_request.h"

#include <gtest/gtest.h>

#include "tessera/base/test_paths.h"
#include "tessera/kernels/backends.h"
#include "tessera/server/chat_completions.h"
#include "tessera/server/choice_text.h"
#include "tessera/server/completions.h"

namespace tessera {
namespace {

using nlohmann::json;

class RequestTest : public testing::Test {
 protected:
  std::filesystem::path dir_ = std::filesystem::path(TESSERA_SOURCE_DIR) / "models/demo-llama";
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
  std::unique_ptr<Model> model_ = Model::load(dir_, *backend_);
  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::load(dir_);
  ServedModel served_{*model_, *tokenizer_, {}};

  PromptRequest completion(json body) {
    if (!body.contains("prompt")) body["prompt"] = "The city";
    return read_completion(RequestBody(body.dump()), served_);
  }

  /// Expects a refusal that names the field.
  void expect_refusal(const json& body, const std::string& param, int status = 400) {
    try {
      completion(body);
      ADD_FAILURE() << body << " was accepted";
    } catch (const ApiError& e) {
      EXPECT_EQ(e.status, status) << e.message;
      EXPECT_EQ(e.param, param) << e.message;
    }
  }
};

TEST_F(RequestTest, FieldsAreReadAndNullMeansAbsent) {
  const PromptRequest all = completion({{"model", "demo-llama"},
                                        {"max_tokens", 7},
                                        {"temperature", 0.5},
                                        {"top_p", 0.9},
                                        {"top_k", 40},
                                        {"min_p", 0.1},
                                        {"seed", -3},
                                        {"stop", {"a", "b"}},
                                        {"n", 2},
                                        {"logit_bias", {{"5", -100}, {"6", 2.5}}},
                                        {"presence_penalty", 1},
                                        {"frequency_penalty", -1},
                                        {"repetition_penalty", 1.1},
                                        {"min_tokens", 2},
                                        {"logprobs", 3},
                                        {"stream", true},
                                        {"stream_options", {{"include_usage", true}}},
                                        {"something_else", {1, 2}}});
  const GenerationRequest& r = all.generation;
  EXPECT_EQ(r.max_tokens, 7);
  EXPECT_FLOAT_EQ(r.sampling.temperature, 0.5f);
  EXPECT_EQ(r.sampling.top_k, 40);
  EXPECT_EQ(r.stops, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(r.n, 2);
  EXPECT_FLOAT_EQ(r.bias.at(6), 2.5f);
  EXPECT_FLOAT_EQ(r.rules.repetition_penalty, 1.1f);
  EXPECT_EQ(r.top_logprobs, 3);
  EXPECT_TRUE(r.stream && r.include_usage);

  const PromptRequest none = completion({{"max_tokens", nullptr},
                                         {"temperature", nullptr},
                                         {"stop", nullptr},
                                         {"n", nullptr},
                                         {"logit_bias", nullptr},
                                         {"stream_options", nullptr},
                                         {"logprobs", nullptr},
                                         {"seed", nullptr}});
  EXPECT_FALSE(none.generation.max_tokens);
  EXPECT_FLOAT_EQ(none.generation.sampling.temperature, 1);
  EXPECT_FALSE(none.generation.top_logprobs);
}

TEST_F(RequestTest, PromptsComeInFourShapes) {
  EXPECT_EQ(completion({{"prompt", "The city"}}).prompts[0].front(), *tokenizer_->bos_id());
  EXPECT_EQ(completion({{"prompt", {"a", "b", "c"}}}).prompts.size(), 3u);
  EXPECT_EQ(completion({{"prompt", {5, 6}}}).prompts, (std::vector<std::vector<int32_t>>{{5, 6}}));
  EXPECT_EQ(completion({{"prompt", {{5, 6}, {7}}}}).prompts.size(), 2u);
  // Who scores counts tokens: nothing is added.
  const auto scored = completion({{"prompt", "The city"}, {"echo", true}, {"logprobs", 1}});
  EXPECT_EQ(scored.prompts[0], tokenizer_->encode("The city", false));

  served_.options.bos_before_ids = true;
  const auto behind_bos = completion({{"prompt", {5, 6}}});
  EXPECT_EQ(behind_bos.hidden, 1u);
  EXPECT_EQ(behind_bos.prompts[0], (std::vector<int32_t>{*tokenizer_->bos_id(), 5, 6}));
  EXPECT_EQ(completion({{"prompt", "The city"}}).hidden, 0u);
}

TEST_F(RequestTest, RefusalsNameTheField) {
  expect_refusal({{"temperature", "hot"}}, "temperature");
  expect_refusal({{"temperature", -1}}, "temperature");
  expect_refusal({{"top_p", 0}}, "top_p");
  expect_refusal({{"n", 17}}, "n");
  expect_refusal({{"stop", {1}}}, "stop");
  expect_refusal({{"stop", std::string(2000, 'x')}}, "stop");
  expect_refusal({{"logit_bias", {{"99999999", 1}}}}, "logit_bias");
  expect_refusal({{"logit_bias", {{"5", 101}}}}, "logit_bias");
  expect_refusal({{"logprobs", 21}}, "logprobs");
  expect_refusal({{"suffix", "x"}}, "suffix");
  expect_refusal({{"best_of", 3}}, "best_of");
  expect_refusal({{"tools", {{{"type", "function"}}}}}, "tools");
  expect_refusal({{"response_format", {{"type", "json_object"}}}}, "response_format");
  expect_refusal({{"prompt", ""}, {"add_special_tokens", false}}, "prompt");
  expect_refusal({{"prompt", json::array()}}, "prompt");
  expect_refusal({{"prompt", {-1}}}, "prompt");
  expect_refusal({{"prompt", {1 << 30}}}, "prompt");
  expect_refusal({{"prompt", std::vector<int>(513, 5)}}, "prompt");
  expect_refusal({{"prompt", std::vector<std::vector<int>>(1025, {5})}}, "prompt");
  expect_refusal({{"max_tokens", 0}}, "max_tokens");
  expect_refusal({{"model", "gpt-4"}}, "model", 404);
  EXPECT_NO_THROW(completion({{"prompt", std::vector<int>(512, 5)}})) << "a full context has room for one";
}

TEST_F(RequestTest, HostileBodiesAreRefused) {
  for (const std::string& body :
       {std::string("{"), std::string("[]"), std::string("\"\\xff\""), std::string(),
        std::string(1'000'000, '['), std::string("{\"prompt\": \"\xff\"}")}) {
    EXPECT_THROW(RequestBody{body}, ApiError) << body.substr(0, 20);
  }
}

TEST_F(RequestTest, ChatMessagesAreJoinedFromTheirParts) {
  const auto messages = [](const json& list) {
    return read_messages(RequestBody(json{{"messages", list}}.dump()));
  };
  const json parts = {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}};
  EXPECT_EQ(messages({{{"role", "user"}, {"content", parts}}})[0]["content"], "ab");
  EXPECT_THROW(messages(json::array()), ApiError);
  EXPECT_THROW(messages({{{"content", "no role"}}}), ApiError);
  EXPECT_THROW(messages({{{"role", "user"}, {"content", {{{"type", "image_url"}}}}}}), ApiError);
}

TEST_F(RequestTest, AStopStringAcrossTokensEndsTheText) {
  const std::string text = " of the old river and the market";
  const std::vector<int32_t> prompt = tokenizer_->encode("The city", true);
  const std::vector<int32_t> ids = tokenizer_->encode("The city" + text, true);
  const auto run = [&](GenerationRequest request) {
    ChoiceText choice(0, prompt, 0, request, served_);
    ChoicePart all;
    for (size_t i = prompt.size(); i < ids.size(); ++i) {
      TokenEvent event{.choice = 0};
      event.id = ids[i];
      const bool stop = choice.take(event);
      all.append(choice.take_part());
      if (stop) break;
    }
    if (!choice.finished()) {
      choice.finish("length");
      all.append(choice.take_part());
    }
    return all;
  };
  EXPECT_EQ(run({}).text, text);
  const ChoicePart cut = run({.stops = {"r and t"}});
  EXPECT_EQ(cut.text, text.substr(0, text.find("r and t")));
  EXPECT_EQ(cut.finish_reason, "stop");
  EXPECT_EQ(run({.rules = {.min_tokens = 100}, .stops = {"r and t"}}).text, text)
      << "not before the least length";
}

TEST_F(RequestTest, OffsetsCountCharacters) {
  const GenerationRequest request{.echo = true, .top_logprobs = 0};
  const std::string text = "caf\xc3\xa9 \xe2\x82\xac 5 and";
  const std::vector<int32_t> prompt = tokenizer_->encode(text, false);
  ChoiceText choice(0, prompt, 0, request, served_);
  TokenEvent event{.choice = 0};
  event.prompt.resize(prompt.size() - 1);
  event.id = prompt[0];
  event.score.emplace();
  event.finish = FinishReason::kMaxTokens;
  choice.take(event);
  const ChoicePart part = choice.take_part();
  ASSERT_EQ(part.tokens.size(), prompt.size() + 1);
  EXPECT_FALSE(part.tokens[0].score);
  EXPECT_EQ(part.tokens[0].text_offset, 0);
  EXPECT_EQ(part.tokens.back().text_offset, 12) << "caf\u00e9 \u20ac 5 and has twelve characters";
  EXPECT_TRUE(part.text.starts_with(text));
}

}  // namespace
}  // namespace tessera
