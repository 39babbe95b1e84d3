// tessera eval: how many questions of multiple-choice tasks models answer.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tessera/base/stopwatch.h"
#include "tessera/cli/commands.h"
#include "tessera/program/loaded_model.h"
#include "tessera/program/terminal.h"
#include "tessera/tasks/choice_scoring.h"
#include "tessera/tasks/task_scores.h"

namespace tessera {
namespace {

using nlohmann::json;

struct EvalOptions {
  std::vector<std::string> models, tasks;
  std::string data;
  size_t shots = 0, limit = 0;
  bool list = false, documents = false;
  KvOption kv;
  DeviceOption device;
};

/// A task with its questions.
struct Questions {
  Task task;
  std::vector<TaskItem> items;
};

Questions read_questions(const std::string& name, const EvalOptions& o) {
  Task task = find_task(name);
  std::vector<Document> documents = task_documents(task, o.data, /*few_shot=*/false), examples;
  if (o.limit > 0 && documents.size() > o.limit) documents.resize(o.limit);
  if (documents.empty()) throw Error("task {}: no documents below {}", task.name, o.data);
  if (o.shots > 0) examples = task_documents(task, o.data, /*few_shot=*/true);
  std::vector<TaskItem> items = make_items(task, documents, examples, o.shots);
  return {std::move(task), std::move(items)};
}

json to_json(const MeanError& value) {
  return {{"value", value.mean}, {"standard_error", value.standard_error}};
}

json to_json(const Accuracy& accuracy) {
  json out = to_json(accuracy.all);
  if (accuracy.groups.empty()) return out;
  out["mean_of_groups"] = accuracy.mean_of_groups;
  for (const auto& [group, value] : accuracy.groups) out["groups"][group] = to_json(value);
  return out;
}

std::string shown(const MeanError& value) {
  return fmt::format("{:.2f} ± {:.2f}", 100 * value.mean, 100 * value.standard_error);
}

/// One row of the table, and the same as JSON.
json evaluate(const std::string& dir, const LoadedModel& model, const Questions& questions,
              const EvalOptions& o, Reporter& reporter, Table& table) {
  const Stopwatch watch;
  const auto scores = score_choices(*model.model, *model.tokenizer, questions.items,
                                    questions.task.name + ", documents", reporter);
  json out{{"model", dir},
           {"task", questions.task.name},
           {"documents", questions.items.size()},
           {"shots", o.shots},
           {"seconds", watch.seconds()}};
  std::vector<std::string> cells;
  for (const std::string metric : {"acc", "acc_norm"}) {
    if (std::ranges::find(questions.task.metrics, metric) == questions.task.metrics.end()) {
      cells.emplace_back("");
      continue;
    }
    const Accuracy value = accuracy(questions.items, scores, metric);
    out[metric] = to_json(value);
    cells.push_back(shown(value.all));
    if (!value.groups.empty()) {
      reporter.note(fmt::format("{}, {}: {} with each of its {} groups counted the same: {:.2f}", dir,
                                questions.task.name, metric, value.groups.size(),
                                100 * value.mean_of_groups));
    }
  }
  if (o.documents) out["log_likelihoods"] = scores;
  table.add({dir, questions.task.name, cells[0], cells[1], std::to_string(questions.items.size()),
             format_duration(watch.seconds())});
  return out;
}

void list_tasks() {
  for (const Task& task : built_in_tasks()) {
    fmt::print("{}: {}\n    files with the word {}, in {}\n    {}\n", task.name, task.summary,
               fmt::join(task.splits, " or "), fmt::join(task.folders, " or "), task.source);
  }
}

void run(const EvalOptions& o, const GlobalOptions& global) {
  if (o.list) return list_tasks();
  if (o.models.empty() || o.tasks.empty() || o.data.empty()) {
    throw Error(
        "eval needs MODEL, --tasks and --data; --list shows the tasks and where their files are looked for");
  }
  TerminalReporter reporter(global.quiet);
  std::vector<Questions> all;
  for (const std::string& name : o.tasks) all.push_back(read_questions(name, o));
  Table table({"model", "task", "acc, %", "acc_norm, %", "documents", "time"});
  json out = json::array();
  for (const std::string& dir : o.models) {
    const LoadedModel model = load_model(dir, o.device, reporter);
    o.kv.apply(*model.model);
    for (const Questions& questions : all) out.push_back(evaluate(dir, model, questions, o, reporter, table));
  }
  fmt::print("{}", global.json ? json_text(out, 2) + "\n" : table.text());
}

}  // namespace

void add_eval(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = app.add_subcommand("eval", "Ask models the questions of multiple-choice tasks");
  auto o = std::make_shared<EvalOptions>();
  command->footer(
      "Examples:\n"
      "  tessera eval --list\n"
      "  tessera eval llama llama-qqq --tasks piqa,arc_easy,hellaswag --data DATASETS\n"
      "  tessera eval llama-qqq --tasks mmlu --fewshot 5 --data DATASETS\n"
      "  tessera eval llama-qqq --tasks my_task.json --data .\n"
      "DATASETS holds a folder for each task, as downloaded: Parquet, .jsonl or .json files. Questions, "
      "scoring and errors are\n"
      "those of lm-evaluation-harness; a task of your own is a file like those of tasks/ in the source "
      "tree.");
  command->add_option("models", o->models, "Model folders or GGUF files");
  command->add_option("--tasks", o->tasks, "Names, or .json files, with commas between them")->delimiter(',');
  command->add_option("--data", o->data, "Folder of the tasks' folders");
  command->add_option(
      "--fewshot", o->shots,
      "Questions answered in front of each, the first of the task's examples (lm-eval draws them at random, "
      "but for mmlu)");
  command->add_option("--limit", o->limit, "Only the first N documents of each task")
      ->check(CLI::PositiveNumber);
  command->add_flag("--documents", o->documents, "With --json: the log-likelihoods of every choice");
  command->add_flag("--list", o->list, "Show the built-in tasks");
  o->kv.add_to(*command);
  o->device.add_to(*command);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
