// Many requests at once: texts and logits are those of each request by itself, whatever else runs.
#include "tessera/engine/batch_engine.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tessera/base/error.h"
#include "tessera/base/test_paths.h"
#include "tessera/kernels/backends.h"
#include "tessera/model/context.h"

namespace tessera {
namespace {

class BatchEngineTest : public testing::Test {
 protected:
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
  std::unique_ptr<Model> model_ =
      Model::load(std::filesystem::path(TESSERA_SOURCE_DIR) / "models/demo-llama", *backend_);

  std::vector<int32_t> prompt(unsigned seed, size_t length) const {
    std::mt19937 random(seed);
    std::vector<int32_t> ids(length);
    for (int32_t& id : ids)
      id = static_cast<int32_t>(random() % static_cast<unsigned>(model_->spec().vocab_size));
    return ids;
  }
};

TEST_F(BatchEngineTest, GreedyTextIsThatOfTheModelStepByStep) {
  const auto ids = prompt(1, 20);
  Context context(*model_, 40);
  std::vector<int32_t> expected, drawn;
  for (auto next = ids; expected.size() < 10; next = {expected.back()}) {
    expected.push_back(sample_token(context.forward(next), {}));
  }
  BatchEngine engine(*model_, {.pages = pages_for_sequences(1, 40)});
  std::optional<FinishReason> reason;
  engine.submit({.prompt = ids,
                 .max_tokens = 10,
                 .on_token = [&](int32_t id) { drawn.push_back(id); },
                 .on_finish = [&](FinishReason r) { reason = r; }});
  while (engine.step()) {
  }
  EXPECT_EQ(drawn, expected);
  EXPECT_EQ(reason, FinishReason::kMaxTokens);
  EXPECT_FALSE(engine.step());
}

TEST_F(BatchEngineTest, ScoresEveryPositionThatIsAskedFor) {
  const auto ids = prompt(2, 100);
  std::vector<float> expected, scored;
  Context(*model_, 100).forward(ids, [&](int64_t, std::span<const float> logits) {
    expected.insert(expected.end(), logits.begin(), logits.end());
  });
  const int64_t vocab = model_->spec().vocab_size, from = 30;
  expected.erase(expected.begin(), expected.begin() + from * vocab);
  BatchEngine engine(*model_, {.step_tokens = 17, .pages = pages_for_sequences(2, 110)});
  int64_t next = from;
  std::vector<int32_t> drawn;
  engine.submit({.prompt = prompt(3, 9), .max_tokens = 30});  // goes on beside it
  engine.submit({.prompt = ids,
                 .max_tokens = 3,
                 .score_from = from,
                 .on_token = [&](int32_t id) { drawn.push_back(id); },
                 .on_logits =
                     [&](int64_t first, std::span<const float> logits) {
                       EXPECT_EQ(first, next);
                       next += std::ssize(logits) / vocab;
                       scored.insert(scored.end(), logits.begin(), logits.end());
                     }});
  while (engine.step()) {
  }
  // Of the three ids that are drawn, two run: their logits follow.
  ASSERT_EQ(scored.size(), expected.size() + static_cast<size_t>(2 * vocab));
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(scored[i], expected[i], 1e-4);
  EXPECT_EQ(drawn.size(), 3u);
}

TEST_F(BatchEngineTest, ShowsTheLogitsThatEveryIdIsDrawnFromOnceDespitePreemption) {
  const auto ids = prompt(7, 70);
  constexpr int64_t kTokens = 60;
  // Two texts that grow to three pages each do not fit in five: the younger one is preempted.
  BatchEngine engine(*model_, {.pages = 1 + 5, .prefix_cache = false});
  std::vector<std::vector<int32_t>> drawn(2), best(2);
  for (size_t i : {0, 1}) {
    Request request{.prompt = ids, .max_tokens = kTokens, .score_from = std::ssize(ids) - 1};
    request.on_token = [&drawn, i](int32_t id) { drawn[i].push_back(id); };
    request.on_logits = [&, i, next = std::ssize(ids) - 1](int64_t first,
                                                           std::span<const float> logits) mutable {
      EXPECT_EQ(first, next++);
      EXPECT_EQ(std::ssize(logits), model_->spec().vocab_size);
      best[i].push_back(sample_token(logits, {}));
    };
    engine.submit(std::move(request));
  }
  while (engine.step()) {
  }
  EXPECT_GT(engine.scheduler().counters().preemptions, 0);
  for (size_t i : {0, 1}) {
    EXPECT_EQ(drawn[i].size(), static_cast<size_t>(kTokens));
    EXPECT_EQ(drawn[i], best[i]);
  }
}

TEST_F(BatchEngineTest, RulesBearOnEveryDraw) {
  const auto ids = prompt(8, 20);
  const auto text = [&](const Request& rules) {
    BatchEngine engine(*model_, {.pages = pages_for_sequences(1, 80)});
    std::vector<int32_t> drawn;
    Request request = rules;
    request.prompt = ids;
    request.max_tokens = 40;
    request.on_token = [&](int32_t id) { drawn.push_back(id); };
    engine.submit(std::move(request));
    while (engine.step()) {
    }
    return drawn;
  };
  const auto plain = text({});
  const std::set<int32_t> different(plain.begin(), plain.end());
  ASSERT_LT(different.size(), plain.size()) << "greedy text repeats ids";
  const auto fresh = text({.rules = {.presence_penalty = 1e6f}});
  EXPECT_EQ(std::set<int32_t>(fresh.begin(), fresh.end()).size(), fresh.size());
  const auto biased = text({.bias = {{5, 1e6f}}});
  EXPECT_EQ(biased, std::vector<int32_t>(40, 5));
  EXPECT_EQ(text({.ends = {plain[0]}}).size(), 1u);
  EXPECT_GE(text({.rules = {.min_tokens = 7}, .ends = {plain[0]}}).size(), 7u);
}

TEST_F(BatchEngineTest, CancelledRequestsLeaveAtOnce) {
  BatchEngine engine(*model_, {.pages = pages_for_sequences(2, 60), .prefix_cache = false});
  const int64_t free = engine.scheduler().free_pages();
  int drawn = 0, other = 0;
  SequenceId id = 0;
  const auto on_token = [&](int32_t) {
    if (++drawn == 3) engine.cancel(id);  // from within a step
  };
  id = engine.submit({.prompt = prompt(4, 10), .max_tokens = 40, .on_token = on_token});
  engine.submit({.prompt = prompt(5, 10), .max_tokens = 40, .on_token = [&](int32_t) { ++other; }});
  const SequenceId waiting = engine.submit({.prompt = prompt(6, 10), .max_tokens = 40});
  engine.cancel(waiting);
  engine.cancel(waiting);
  while (engine.step()) {
  }
  EXPECT_EQ(drawn, 3);
  EXPECT_EQ(other, 40);
  EXPECT_EQ(engine.scheduler().free_pages(), free);
}

TEST_F(BatchEngineTest, BadRequestsAreRefusedInOneLine) {
  BatchEngine engine(*model_, {.pages = 4});
  const auto refusal = [&](Request request) -> std::string {
    try {
      engine.submit(std::move(request));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refusal({}).find("the prompt is empty"), std::string::npos);
  EXPECT_NE(refusal({.prompt = {-1}}).find("token id -1 is outside the vocabulary"), std::string::npos);
  EXPECT_NE(refusal({.prompt = prompt(1, 600)}).find("600 tokens does not fit in the model's context of 512"),
            std::string::npos);
  EXPECT_NE(refusal({.prompt = prompt(1, 200), .max_tokens = 50}).find("do not fit in the KV pool"),
            std::string::npos);
  EXPECT_NE(refusal({.prompt = {1}, .sampling = {.temperature = -1}}).find("temperature"), std::string::npos);
  EXPECT_NE(refusal({.prompt = {1}, .bias = {{1 << 20, 1}}}).find("outside the vocabulary"),
            std::string::npos);
  EXPECT_THROW(BatchEngine(*model_, {.step_tokens = model_->max_rows() + 1, .pages = 4}), Error);
  EXPECT_FALSE(engine.step()) << "nothing was taken in";
}

}  // namespace
}  // namespace tessera
