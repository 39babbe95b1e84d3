// Filters that go through lists and dicts.
#include <algorithm>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/filters.h"
#include "tessera/chat/jinja/operators.h"
#include "tessera/chat/jinja/written.h"

namespace tessera::jinja {
namespace {

Value undefined(std::string reason) {
  return Undefined{std::make_shared<const std::string>(std::move(reason))};
}

Value length(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("length", {});
  return size_of(runtime, input);
}

Value list(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("list", {});
  return List{elements(runtime, input)};
}

Value items(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("items", {});
  if (input.is_undefined()) return List{};
  if (!input.dict()) throw Failure("Can only get item pairs from a mapping.");
  return items_of(runtime, *input.dict());
}

Value first(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("first", {});
  const auto all = elements(runtime, input);
  return all.empty() ? undefined("No first item, sequence was empty.") : all.front();
}

Value last(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("last", {});
  const auto all = elements(runtime, input);
  return all.empty() ? undefined("No last item, sequence was empty.") : all.back();
}

Value reverse(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("reverse", {});
  if (input.text()) return slice(runtime, input, {.step = -1});
  List out{elements(runtime, input)};
  std::ranges::reverse(out.items);
  return out;
}

Value join(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("join", {"d", "attribute"});
  const std::string separator = bound[0] ? printed(runtime, *bound[0]) : "";
  std::string out;
  bool is_first = true;
  for (const Value& element : elements(runtime, input)) {
    const bool by_attribute = bound[1] && !bound[1]->is_none();
    const std::string part = printed(runtime, by_attribute ? follow(runtime, element, *bound[1]) : element);
    runtime.budget.spend_text(separator.size() + part.size());
    if (!std::exchange(is_first, false)) out += separator;
    out += part;
  }
  return out;
}

Value sum(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("sum", {"attribute", "start"});
  Value total = bound[1].value_or(int64_t{0});
  for (const Value& element : elements(runtime, input)) {
    const bool by_attribute = bound[0] && !bound[0]->is_none();
    total = calculate(runtime, Arithmetic::kAdd, total,
                      by_attribute ? follow(runtime, element, *bound[0]) : element);
  }
  return total;
}

Value batch(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("batch", {"linecount", "fill_with"});
  if (!bound[0]) throw Failure("batch() missing 1 required positional argument: 'linecount'");
  const auto size =
      static_cast<size_t>(std::clamp<int64_t>(expect_integer(*bound[0], "linecount"), 1, 100'000));
  List batches, current;
  for (const Value& element : elements(runtime, input)) {
    if (current.items.size() == size) batches.items.emplace_back(std::exchange(current, {}));
    current.items.push_back(element);
  }
  if (bound[1] && !bound[1]->is_none() && !current.items.empty()) {
    runtime.budget.spend(static_cast<int64_t>(size));
    current.items.resize(size, *bound[1]);
  }
  if (!current.items.empty()) batches.items.emplace_back(std::move(current));
  return batches;
}

constexpr Filter kFilters[] = {{"batch", batch},     {"count", length}, {"first", first},   {"items", items},
                               {"join", join},       {"last", last},    {"length", length}, {"list", list},
                               {"reverse", reverse}, {"sum", sum}};

}  // namespace

std::span<const Filter> sequence_filters() {
  return kFilters;
}

}  // namespace tessera::jinja
