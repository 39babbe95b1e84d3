// From documents to questions, likelihoods and shares of right answers.
#include "tessera/tasks/task.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tessera/base/test_error.h"
#include "tessera/eval/logit_statistics.h"
#include "tessera/kernels/backends.h"
#include "tessera/model/context.h"
#include "tessera/tasks/choice_scoring.h"
#include "tessera/tasks/task_scores.h"

namespace tessera {
namespace {

const std::filesystem::path kModel = std::filesystem::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama";

TaskItem item_of(const char* task, const char* document) {
  return make_items(find_task(task), {Document::parse(document)}, {}, 0).at(0);
}

std::vector<std::string> texts(const TaskItem& item) {
  std::vector<std::string> out;
  for (const TaskItem::Choice& choice : item.choices)
    out.push_back(choice.context + "|" + choice.continuation);
  return out;
}

using Texts = std::vector<std::string>;

TEST(Task, Piqa) {
  const TaskItem item =
      item_of("piqa", R"({"goal": "Open it", "sol1": "Pull.", "sol2": "Püsh.", "label": 1})");
  EXPECT_EQ(texts(item), (Texts{"Question: Open it\nAnswer:| Pull.", "Question: Open it\nAnswer:| Püsh."}));
  EXPECT_EQ(item.answer, 1u);
  EXPECT_EQ(item.choices[1].length, 5u);
}

TEST(Task, ArcInBothForms) {
  const Texts expected{"Question: Why?\nAnswer:| so", "Question: Why?\nAnswer:| thus",
                       "Question: Why?\nAnswer:| else"};
  for (
      const char* document :
      {R"({"question": "Why?", "choices": {"text": ["so", "thus", "else"], "label": ["A", "B", "C"]}, "answerKey": "C"})",
       R"({"question": {"stem": "Why?", "choices": [{"text": "so", "label": "1"}, {"text": "thus", "label": "2"},
            {"text": "else", "label": "3"}]}, "answerKey": "3"})"}) {
    for (const char* task : {"arc_easy", "arc_challenge"}) {
      const TaskItem item = item_of(task, document);
      EXPECT_EQ(texts(item), expected);
      EXPECT_EQ(item.answer, 2u);
    }
  }
}

TEST(Task, BoolqInBothForms) {
  for (const char* document : {R"({"passage": "P.", "question": "is it", "label": 1})",
                               R"({"passage": "P.", "question": "is it", "answer": true})"}) {
    const TaskItem item = item_of("boolq", document);
    EXPECT_EQ(texts(item),
              (Texts{"P.\nQuestion: is it?\nAnswer:| no", "P.\nQuestion: is it?\nAnswer:| yes"}));
    EXPECT_EQ(item.answer, 1u);
  }
}

TEST(Task, HellaswagIsCleaned) {
  const TaskItem item =
      item_of("hellaswag", R"({"activity_label": "Sport", "ctx_a": "[header] How to run [title] Fast.",
      "ctx_b": "the MAN", "endings": [" goes  home [substeps] now.", "a \"quote\"", "c", "d [a[b] e"], "label": "3"})");
  const std::string context = "Sport: How to run. Fast. The man";
  EXPECT_EQ(texts(item), (Texts{context + "| goes home now.", context + "| a \"quote\"", context + "| c",
                                context + "| d e"}));
  EXPECT_EQ(item.answer, 3u);
}

TEST(Task, WinograndeScoresWhatFollowsTheBlank) {
  const TaskItem item = item_of(
      "winogrande", R"({"sentence": "The _ was full, so _ stayed.", "option1": "cup", "option2": "jug",
      "answer": "2"})");
  EXPECT_EQ(texts(item), (Texts{"The cup| was full, so _ stayed.", "The jug| was full, so _ stayed."}));
  EXPECT_EQ(item.answer, 1u);
}

TEST(Task, MmluPutsExamplesOfItsSubjectInFront) {
  const auto document = [](const char* question, const char* subject, int answer) {
    return Document{
        {"question", question}, {"choices", {"k", "l", "m", "n"}}, {"answer", answer}, {"subject", subject}};
  };
  const std::vector<Document> examples{document("x1", "world_history", 0), document("y1", "law", 1),
                                       document("y2", "law", 2), document("y3", "law", 3)};
  const Task mmlu = find_task("mmlu");
  const TaskItem item = make_items(mmlu, {document(" q ", "law", 3)}, examples, 2).at(0);
  const std::string tail = "\nA. k\nB. l\nC. m\nD. n\nAnswer:";
  EXPECT_EQ(item.choices.at(3).context,
            "The following are multiple choice questions (with answers) about law.\n\ny1" + tail +
                " B\n\ny2" + tail + " C\n\nq" + tail);
  EXPECT_EQ(item.choices.at(3).continuation, " D");
  EXPECT_EQ(item.group, "law");
  EXPECT_EQ(error_of([&] { make_items(mmlu, {document("q", "world_history", 0)}, examples, 2); }),
            "task mmlu: document 1: fewer than 2 examples of world_history");
}

TEST(Task, WhatADocumentLacksIsAnError) {
  const std::string lacks = error_of([] { item_of("piqa", R"({"goal": "x", "sol1": "a", "label": 0})"); });
  EXPECT_NE(lacks.find("task piqa: document 1:"), std::string::npos) << lacks;
  EXPECT_NE(lacks.find("sol2"), std::string::npos) << lacks;
  EXPECT_NE(error_of([] {
              item_of("piqa", R"({"goal": "x", "sol1": "a", "sol2": "b", "label": -1})");
            }).find("answer '-1'"),
            std::string::npos);
}

TEST(Task, ATaskOfOnesOwn) {
  const auto task = [](const char* key, nlohmann::json value) {
    nlohmann::json definition{{"name", "mine"},
                              {"splits", {"test"}},
                              {"context", "{{ q }}\n"},
                              {"answer", "0"},
                              {"choices", {"{{ a }}", "{{ b }}"}},
                              {"delimiter", ""}};
    definition[key] = std::move(value);
    return Task::from_json(definition, "mine.json");
  };
  const Task mine = task("summary", "x");
  EXPECT_EQ(mine.folders, Texts{"mine"});
  const TaskItem item = make_items(mine, {{{"q", "Q"}, {"a", "A"}, {"b", "B"}}}, {}, 0).at(0);
  EXPECT_EQ(texts(item), (Texts{"Q\n|A", "Q\n|B"}));
  EXPECT_NE(error_of([&] { task("metrics", {"f1"}); }).find("mine.json: metrics"), std::string::npos);
  EXPECT_NE(error_of([&] { task("contexts", "x"); }).find("contexts"), std::string::npos);
  EXPECT_NE(error_of([&] { task("answer", "{{"); }).find("mine.json: answer"), std::string::npos);
  EXPECT_NE(error_of([] { find_task("pica"); }).find("piqa"), std::string::npos);
}

TEST(TaskScores, TheFirstOfEqualsAndLengthsAndGroups) {
  std::vector<TaskItem> items(5);
  for (size_t i = 0; i < items.size(); ++i) {
    items[i].choices = {{"", "", 2}, {"", "", 8}};
    items[i].group = i < 2 ? "few" : "many";
  }
  items[4].answer = 1;
  // Right by sum: 1, 1, 0, 1, 0; by length: 0, 0, 0, 1, 1.
  const std::vector<std::vector<double>> logprobs{{-4, -8}, {-4, -8}, {-9, -8}, {-4, -16}, {-3, -8}};
  const Accuracy acc = accuracy(items, logprobs, "acc");
  EXPECT_DOUBLE_EQ(acc.all.mean, 0.6);
  EXPECT_DOUBLE_EQ(acc.groups.at("few").mean, 1);
  EXPECT_DOUBLE_EQ(acc.groups.at("many").mean, 1 / 3.0);
  EXPECT_DOUBLE_EQ(acc.mean_of_groups, 2 / 3.0);
  // Sample variance 1/3 of "many" over its 3, pooled: (3 - 1) * 1/9 * 3 / (5 - 2) / 5.
  EXPECT_DOUBLE_EQ(acc.groups.at("many").standard_error, 1 / 3.0);
  EXPECT_DOUBLE_EQ(acc.all.standard_error, std::sqrt(2.0 / 45));
  EXPECT_DOUBLE_EQ(accuracy(items, logprobs, "acc_norm").all.mean, 0.4);
  for (TaskItem& item : items) item.group = "";
  EXPECT_DOUBLE_EQ(accuracy(items, logprobs, "acc").all.standard_error, std::sqrt(0.3 / 5));
}

TEST(ChoiceScoring, WhiteSpaceAtTheEndOfTheContextIsScored) {
  const auto tokenizer = Tokenizer::load(kModel);
  const EncodedChoice plain = encode_choice(*tokenizer, {"The city", " was old", 1}, 512);
  EXPECT_EQ(encode_choice(*tokenizer, {"The city ", "was old", 1}, 512), plain);
  EXPECT_EQ(plain.ids, tokenizer->encode("The city was old", true));
  EXPECT_EQ(plain.scored, plain.ids.size() - tokenizer->encode("The city", true).size());
  const EncodedChoice empty = encode_choice(*tokenizer, {"", "The city", 1}, 512);
  EXPECT_EQ(empty.ids.front(), tokenizer->bos_id());
  EXPECT_EQ(empty.scored, empty.ids.size() - 1);
  const EncodedChoice cut =
      encode_choice(*tokenizer, {"The city", " was old", 1}, static_cast<int64_t>(plain.scored));
  EXPECT_EQ(cut.ids.size(), plain.scored + 1);
  EXPECT_THROW(encode_choice(*tokenizer, {"The city", " was old", 1}, static_cast<int64_t>(plain.scored) - 1),
               Error);
}

TEST(ChoiceScoring, IsTheLikelihoodOfEachChoiceByItself) {
  const auto backend = make_backend("cpu");
  const auto model = Model::load(kModel, *backend);
  const auto tokenizer = Tokenizer::load(kModel);
  std::string story = "The history of the city begins with a river.";
  while (tokenizer->encode(story, true).size() < 150)
    story += " The people of the town were proud of the old church.";
  std::vector<TaskItem> items;
  for (int i = 0; i < 6; ++i) {
    TaskItem item;
    for (const char* choice : {" A", " B", " was built in the north", " was built in the south", " B"}) {
      item.choices.push_back({i % 2 ? story + std::to_string(i) : "The city", choice, 1});
    }
    items.push_back(item);
  }
  Reporter reporter;
  const auto scores = score_choices(
      *model, encode_items(*tokenizer, items, model->spec().max_positions, "mine"), "items", reporter);
  ASSERT_EQ(scores.size(), items.size());
  const auto vocab = static_cast<size_t>(model->spec().vocab_size);
  for (size_t i = 0; i < items.size(); ++i) {
    ASSERT_EQ(scores[i].size(), items[i].choices.size());
    for (size_t c = 0; c < scores[i].size(); ++c) {
      const EncodedChoice choice =
          encode_choice(*tokenizer, items[i].choices[c], model->spec().max_positions);
      Context context(*model, std::ssize(choice.ids));
      double expected = 0;
      context.forward(std::span(choice.ids).first(choice.ids.size() - 1), [&](int64_t first,
                                                                              std::span<const float> logits) {
        for (size_t row = 0; row < logits.size() / vocab; ++row) {
          const size_t next = static_cast<size_t>(first) + row + 1;
          if (next + choice.scored < choice.ids.size()) continue;
          expected -= negative_log_likelihood(logits.subspan(row * vocab, vocab), choice.ids[next]);
        }
      });
      EXPECT_NEAR(scores[i][c], expected, 1e-3) << i << " " << c;
    }
    EXPECT_EQ(scores[i][1], scores[i][4]);
  }
}

}  // namespace
}  // namespace tessera
