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
  size_t shots = 0, limit = 0;  ///< limit: 0: all
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

/// One document has no spread.
json to_json(const MeanError& value, size_t documents) {
  return {{"value", value.mean}, {"standard_error", documents > 1 ? json(value.standard_error) : json()}};
}

json to_json(const Accuracy& accuracy, const std::vector<TaskItem>& items) {
  json out = to_json(accuracy.all, items.size());
  if (accuracy.groups.empty()) return out;
  out["mean_of_groups"] = accuracy.mean_of_groups;
  for (const auto& [group, value] : accuracy.groups) {
    const auto documents = std::ranges::count(items, group, &TaskItem::group);
    out["groups"][group] = to_json(value, static_cast<size_t>(documents));
  }
  return out;
}

std::string shown(const MeanError& value, size_t documents) {
  const std::string mean = fmt::format("{:.2f}", 100 * value.mean);
  return documents > 1 ? fmt::format("{} ± {:.2f}", mean, 100 * value.standard_error) : mean;
}

/// A row of the table, or two where there are groups, and the same as JSON.
json evaluate(const std::string& dir, Model& model, const Questions& questions, EncodedItems items,
              const EvalOptions& o, Reporter& reporter, Table& table) {
  const Stopwatch watch;
  const Task& task = questions.task;
  const auto scores = score_choices(model, std::move(items), task.name + ", documents", reporter);
  const size_t documents = questions.items.size();
  json out{{"model", dir},
           {"task", task.name},
           {"documents", documents},
           {"shots", o.shots},
           {"seconds", watch.seconds()}};
  std::vector<std::string> row{dir, task.name}, by_group{dir, ""};
  for (const std::string metric : {"acc", "acc_norm"}) {
    row.emplace_back();
    by_group.emplace_back();
    if (std::ranges::find(task.metrics, metric) == task.metrics.end()) continue;
    const Accuracy value = accuracy(questions.items, scores, metric);
    out[metric] = to_json(value, questions.items);
    row.back() = shown(value.all, documents);
    if (value.groups.size() < 2) continue;
    by_group[1] = fmt::format("{}, mean of {} groups", task.name, value.groups.size());
    by_group.back() = fmt::format("{:.2f}", 100 * value.mean_of_groups);
  }
  if (o.documents) out["log_likelihoods"] = scores;
  row.insert(row.end(), {std::to_string(documents), format_duration(watch.seconds())});
  table.add(row);
  by_group.resize(row.size());
  if (!by_group[1].empty()) table.add(by_group);
  return out;
}

void list_tasks(bool as_json) {
  json out = json::array();
  for (const Task& task : built_in_tasks()) {
    out.push_back({{"task", task.name},
                   {"summary", task.summary},
                   {"folders", task.folders},
                   {"splits", task.splits},
                   {"source", task.source}});
    if (as_json) continue;
    fmt::print("{}: {}\n    files with the word {}, in {}\n    {}\n", task.name, task.summary,
               fmt::join(task.splits, " or "), fmt::join(task.folders, " or "), task.source);
  }
  if (as_json) fmt::print("{}\n", json_text(out, 2));
}

/// Every task on one model; nothing is scored before all of them are encoded.
void evaluate_model(const std::string& dir, const std::vector<Questions>& all, const EvalOptions& o,
                    Reporter& reporter, json& out, Table& table) {
  const LoadedModel loaded = load_model(dir, o.device, reporter);
  o.kv.apply(*loaded.model);
  std::vector<EncodedItems> encoded;
  encoded.reserve(all.size());
  for (const Questions& questions : all) {
    encoded.push_back(encode_items(*loaded.tokenizer, questions.items, loaded.model->spec().max_positions,
                                   questions.task.name));
  }
  for (size_t i = 0; i < all.size(); ++i) {
    out.push_back(evaluate(dir, *loaded.model, all[i], std::move(encoded[i]), o, reporter, table));
  }
}

void run(const EvalOptions& o, const GlobalOptions& global) {
  if (o.list) return list_tasks(global.json);
  if (o.models.empty() || o.tasks.empty() || o.data.empty()) {
    throw Error(
        "eval needs MODEL, --tasks and --data; --list shows the tasks and where their files are looked for");
  }
  TerminalReporter reporter(global.quiet);
  for (const std::string& dir : o.models) make_model_spec(ModelConfig::load(dir));
  std::vector<Questions> all;
  for (const std::string& name : o.tasks) all.push_back(read_questions(name, o));
  Table table({"model", "task", "acc, %", "acc_norm, %", "documents", "time"});
  json out = json::array();
  const auto print = [&] { fmt::print("{}", global.json ? json_text(out, 2) + "\n" : table.text()); };
  try {
    for (const std::string& dir : o.models) evaluate_model(dir, all, o, reporter, out, table);
  } catch (const Error&) {
    if (!out.empty()) print();  // what has been finished may have taken hours
    throw;
  }
  print();
}

}  // namespace

void add_eval(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = add_command(app, "eval", "Ask models the questions of multiple-choice tasks");
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
  command
      ->add_option("--fewshot", o->shots,
                   "Questions answered in front of each, the first of the task's examples (lm-eval draws "
                   "them at random, "
                   "but for mmlu)")
      ->check(CLI::Range(0, 1000));
  command->add_option("--limit", o->limit, "Only the first N documents of each task, whatever their groups")
      ->check(CLI::Range(1, 1'000'000'000));
  command->add_flag("--documents", o->documents, "With --json: the log-likelihoods of every choice");
  command->add_flag("--list", o->list, "Show the built-in tasks");
  o->kv.add_to(*command);
  o->device.add_to(*command);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
