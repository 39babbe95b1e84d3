// From documents to items.
#include "tessera/tasks/task.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "tessera/base/json_node.h"
#include "tessera/chat/jinja/text.h"
#include "tessera/tasks/built_in_tasks.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr jinja::Dialect kDialect{.keep_last_line_end = true, .strict = true};

jinja::Template template_of(const JsonNode& node) {
  return jinja::Template(node.string(), node.where(), kDialect);
}

/// One template, or a list of them.
std::vector<jinja::Template> templates_of(const JsonNode& node) {
  std::vector<jinja::Template> templates;
  if (node.is_string()) {
    templates.push_back(template_of(node));
    return templates;
  }
  for (const JsonNode& item : node.items()) templates.push_back(template_of(item));
  if (templates.empty()) node.fail("an empty list");
  return templates;
}

std::optional<jinja::Template> optional_template(const JsonNode& node) {
  if (node.is_null()) return std::nullopt;
  return template_of(node);
}

std::string render(const jinja::Template& source, const Document& document) {
  return source.render(document, /*now=*/0);
}

std::string render(const std::optional<jinja::Template>& source, const Document& document) {
  return source ? render(*source, document) : "";
}

std::vector<std::string> choices_of(const Task& task, const Document& document) {
  std::vector<std::string> choices;
  if (task.choices_are_list) {
    const nlohmann::json list = parse_json(render(task.choices[0], document), "choices");
    choices = JsonNode(list, "choices").get<std::vector<std::string>>();
  } else {
    for (const jinja::Template& choice : task.choices) choices.push_back(render(choice, document));
  }
  if (choices.size() < 2) throw Error("{} choices; 2 or more make a question", choices.size());
  return choices;
}

size_t answer_of(const Task& task, const Document& document, size_t choices) {
  const std::string text = render(task.answer, document);
  size_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error != std::errc() || end != text.data() + text.size() || index >= choices) {
    throw Error("answer '{}' is none of 0 .. {}", text, choices - 1);
  }
  return index;
}

/// The item without examples.
TaskItem plain_item(const Task& task, const Document& document) {
  const std::vector<std::string> choices = choices_of(task, document);
  if (task.contexts.size() > 1 && task.contexts.size() != choices.size()) {
    throw Error("{} contexts and {} choices", task.contexts.size(), choices.size());
  }
  TaskItem item{.answer = answer_of(task, document, choices.size()), .group = render(task.group, document)};
  for (size_t i = 0; i < choices.size(); ++i) {
    const bool own = task.contexts.size() > 1;
    const size_t length = jinja::length(choices[i]);
    if (length == 0) throw Error("choice {} is empty", i + 1);
    item.choices.push_back(
        {render(task.contexts[own ? i : 0], document), task.delimiter + choices[i], length});
  }
  return item;
}

/// What a failure of one document is called.
template <class Function>
auto of_document(const Task& task, size_t index, const char* kind, const Function& function) {
  try {
    return function();
  } catch (const Error& e) {
    throw Error("task {}: {} {}: {}", task.name, kind, index + 1, e.what());
  }
}

/// The examples of each group, written out with their right choices.
std::map<std::string, std::string> shots_of_groups(const Task& task, const std::vector<Document>& examples,
                                                   size_t shots) {
  std::map<std::string, std::string> text;
  std::map<std::string, size_t> count;
  for (size_t i = 0; i < examples.size(); ++i) {
    of_document(task, i, "example", [&] {
      const std::string group = render(task.group, examples[i]);
      if (count[group] == shots) return;
      ++count[group];
      const TaskItem item = plain_item(task, examples[i]);
      const TaskItem::Choice& right = item.choices[item.answer];
      text[group] += right.context + right.continuation + "\n\n";
    });
  }
  std::erase_if(text, [&](const auto& entry) { return count[entry.first] < shots; });
  return text;
}

}  // namespace

Task Task::from_json(const nlohmann::json& definition, const std::string& where) {
  const JsonNode root(definition, where);
  root.expect_keys({"name", "summary", "source", "folders", "splits", "fewshot_splits", "context", "choices",
                    "answer", "metrics", "description", "group", "delimiter"});
  Task task{.name = root["name"].string(),
            .summary = root["summary"].get_or<std::string>(""),
            .source = root["source"].get_or<std::string>(""),
            .delimiter = root["delimiter"].get_or<std::string>(" "),
            .splits = root["splits"].get<std::vector<std::string>>(),
            .fewshot_splits = root["fewshot_splits"].get_or<std::vector<std::string>>({}),
            .metrics = root["metrics"].get_or<std::vector<std::string>>({"acc"}),
            .contexts = templates_of(root["context"]),
            .choices = templates_of(root["choices"]),
            .choices_are_list = root["choices"].is_string(),
            .answer = template_of(root["answer"]),
            .description = optional_template(root["description"]),
            .group = optional_template(root["group"])};
  if (task.splits.empty()) root["splits"].fail("no words of file names");
  task.folders = root["folders"].get_or<std::vector<std::string>>({task.name});
  for (const std::string& metric : task.metrics) {
    if (metric != "acc" && metric != "acc_norm")
      root["metrics"].fail("'{}' is not one of acc, acc_norm", metric);
  }
  return task;
}

std::vector<Task> built_in_tasks() {
  std::vector<Task> tasks;
  for (std::string_view text : built_in_task_texts()) {
    tasks.push_back(Task::from_json(nlohmann::json::parse(text), "built-in task"));
  }
  std::ranges::sort(tasks, {}, &Task::name);
  return tasks;
}

Task find_task(const std::string& name_or_file) {
  if (name_or_file.ends_with(".json")) return Task::from_json(read_json(name_or_file), name_or_file);
  std::vector<std::string> names;
  for (Task& task : built_in_tasks()) {
    if (task.name == name_or_file) return std::move(task);
    names.push_back(task.name);
  }
  throw Error("task '{}' is not known (known: {}; FILE.json is one of your own)", name_or_file,
              fmt::join(names, ", "));
}

std::vector<TaskItem> make_items(const Task& task, const std::vector<Document>& documents,
                                 const std::vector<Document>& examples, size_t shots) {
  const std::map<std::string, std::string> examples_of = shots_of_groups(task, examples, shots);
  std::vector<TaskItem> items;
  for (size_t i = 0; i < documents.size(); ++i) {
    items.push_back(of_document(task, i, "document", [&] {
      TaskItem item = plain_item(task, documents[i]);
      const auto found = examples_of.find(item.group);
      if (shots > 0 && found == examples_of.end()) {
        throw Error("fewer than {} examples{}", shots, item.group.empty() ? "" : " of " + item.group);
      }
      const std::string before = render(task.description, documents[i]) + (shots > 0 ? found->second : "");
      for (TaskItem::Choice& choice : item.choices) choice.context = before + choice.context;
      return item;
    }));
  }
  return items;
}

std::vector<Document> task_documents(const Task& task, const fs::path& data, bool few_shot) {
  const std::vector<std::string>& splits = few_shot ? task.fewshot_splits : task.splits;
  if (splits.empty()) throw Error("task {} names no splits for examples; leave --fewshot out", task.name);
  for (const std::string& folder : task.folders) {
    if (!fs::is_directory(data / folder)) continue;
    std::vector<Document> documents;
    for (const fs::path& file : split_files(data / folder, splits)) {
      for (Document& document : read_documents(file)) documents.push_back(std::move(document));
    }
    return documents;
  }
  throw Error("{}: no folder {} for the task {}; put its files there{}", data.string(),
              fmt::join(task.folders, " or "), task.name,
              task.source.empty() ? "" : " (" + task.source + ")");
}

}  // namespace tessera
