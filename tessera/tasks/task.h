// Multiple-choice tasks as data: how a document becomes contexts and continuations, one of which is right.
//
// The definitions and the scoring are those of lm-evaluation-harness (0.4), so that numbers can be compared.
// Built-in tasks are the files of tasks/; another JSON file is another task.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tessera/chat/jinja/template.h"
#include "tessera/tasks/documents.h"

namespace tessera {

/// {
///   "name": "arc_easy", "summary": "...", "source": "...",
///   "folders": ["arc_easy", "ai2_arc/ARC-Easy"],   where its files may lie below the data folder
///   "splits": ["test"],                            words of the files' names, the first that there is counts
///   "context": "Question: {{ question }}\nAnswer:",     Jinja over the document's fields; a list: one a
///   choice "choices": ["{{ a }}", "{{ b }}"],             or one template that writes a JSON list of texts
///   "answer": "{{ label }}",                       index of the right choice
///   "metrics": ["acc", "acc_norm"],
/// optional:
///   "description": "...", "group": "{{ subject }}", "fewshot_splits": ["train"], "delimiter": " "
/// }
/// Fields that a document does not have are errors in all templates.
struct Task {
  std::string name, summary, source, delimiter = " ";
  std::vector<std::string> folders = {}, splits = {}, fewshot_splits = {}, metrics = {};
  std::vector<jinja::Template> contexts = {};  ///< one for all choices, or one a choice
  std::vector<jinja::Template> choices = {};   ///< one a choice, or with choices_are_list a single one
  bool choices_are_list = false;
  std::optional<jinja::Template> answer = {}, description = {}, group = {};

  /// Throws Error naming `where`, the key and what is wrong.
  static Task from_json(const nlohmann::json& definition, const std::string& where);
};

/// The built-in tasks, sorted by name.
std::vector<Task> built_in_tasks();
/// A built-in task, or with a name that ends in ".json" that of a file. Throws Error listing the built-in
/// ones.
Task find_task(const std::string& name_or_file);

/// A question as the model sees it.
struct TaskItem {
  struct Choice {
    std::string context, continuation;  ///< the continuation begins with the delimiter
    size_t length = 0;                  ///< of the choice in code points, delimiter left out, at least 1
  };
  std::vector<Choice> choices = {};
  size_t answer = 0;       ///< < choices.size()
  std::string group = {};  ///< "" where the task has none
};

/// The items of `documents`, each behind the first `shots` documents of `examples` of its own group with
/// their right choices. Throws Error, naming the task and the document's number, when a template fails, an
/// answer is no index of a choice, or a group has fewer examples.
std::vector<TaskItem> make_items(const Task& task, const std::vector<Document>& documents,
                                 const std::vector<Document>& examples, size_t shots);

/// The documents of the task's splits below `data`, and with `few_shot` those of its examples. Throws Error.
std::vector<Document> task_documents(const Task& task, const std::filesystem::path& data, bool few_shot);

}  // namespace tessera
