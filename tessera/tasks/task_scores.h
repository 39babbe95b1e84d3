// What a task's log-likelihoods say of a model.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tessera/eval/statistics.h"
#include "tessera/tasks/task.h"

namespace tessera {

/// A share of right answers, with the errors that lm-evaluation-harness prints.
struct Accuracy {
  MeanError all = {};                            ///< over documents, so that groups count by their size
  std::map<std::string, MeanError> groups = {};  ///< where the task has groups
  double mean_of_groups = 0;  ///< where each group counts the same; `all.mean` without groups
};

/// `metric` is "acc" (the likeliest choice is right) or "acc_norm" (the likeliest for its length in code
/// points); the first of equals counts. `logprobs` [items, choices], at least one item. With groups, the
/// error of all is pooled over them.
Accuracy accuracy(const std::vector<TaskItem>& items, const std::vector<std::vector<double>>& logprobs,
                  const std::string& metric);

}  // namespace tessera
