// Right answers, counted.
#include "tessera/tasks/task_scores.h"

#include <algorithm>
#include <cmath>

namespace tessera {
namespace {

/// 1 or 0.
double is_right(const TaskItem& item, const std::vector<double>& logprobs, bool by_length) {
  size_t best = 0;
  const auto value = [&](size_t i) {
    return by_length ? logprobs[i] / static_cast<double>(item.choices[i].length) : logprobs[i];
  };
  for (size_t i = 1; i < logprobs.size(); ++i) {
    if (value(i) > value(best)) best = i;
  }
  return best == item.answer ? 1 : 0;
}

}  // namespace

Accuracy accuracy(const std::vector<TaskItem>& items, const std::vector<std::vector<double>>& logprobs,
                  const std::string& metric) {
  std::vector<double> right;
  std::map<std::string, std::vector<double>> right_of;
  for (size_t i = 0; i < items.size(); ++i) {
    right.push_back(is_right(items[i], logprobs[i], metric == "acc_norm"));
    right_of[items[i].group].push_back(right.back());
  }
  Accuracy out{.all = mean_error(right)};
  out.mean_of_groups = out.all.mean;
  if (right_of.size() == 1 && right_of.begin()->first.empty()) return out;
  double spread = 0, sum = 0;
  for (const auto& [group, values] : right_of) {
    const MeanError one = out.groups[group] = mean_error(values);
    const auto n = static_cast<double>(values.size());
    spread += (n - 1) * one.standard_error * one.standard_error * n;
    sum += one.mean;
  }
  const auto n = static_cast<double>(right.size()), groups = static_cast<double>(right_of.size());
  if (n > groups) out.all.standard_error = std::sqrt(spread / (n - groups) / n);
  out.mean_of_groups = sum / groups;
  return out;
}

}  // namespace tessera
