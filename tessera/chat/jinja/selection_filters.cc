// Filters that choose, order or change elements one by one.
#include <algorithm>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/filters.h"
#include "tessera/chat/jinja/predicates.h"
#include "tessera/chat/jinja/text.h"
#include "tessera/chat/jinja/written.h"

namespace tessera::jinja {
namespace {

/// The arguments behind the first `count` positional ones.
Arguments behind(const Arguments& arguments, size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(),
                        rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

/// select, reject, selectattr, rejectattr: keeps the elements (or those whose attribute) for which a test
/// holds, or does not; without a test their truth decides.
template <bool wanted, bool by_attribute>
Value choose(Runtime& runtime, const Value& input, const Arguments& arguments) {
  constexpr size_t kTest = by_attribute ? 1 : 0;
  if (arguments.positional.size() < kTest) throw Failure("Missing parameter for attribute name");
  const Predicate* test = nullptr;
  Arguments rest;
  if (arguments.positional.size() > kTest) {
    test = &require_predicate(expect_text(arguments.positional[kTest], "the name of a test"));
    rest = behind(arguments, kTest + 1);
  }
  List kept;
  for (const Value& element : elements(runtime, input)) {
    const Value judged = by_attribute ? follow(runtime, element, arguments.positional[0]) : element;
    if ((test ? test->function(runtime, judged, rest) : judged.truth()) == wanted)
      kept.items.push_back(element);
  }
  return kept;
}

Value map_attribute(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("map", {"attribute", "default"});
  List out;
  for (const Value& element : elements(runtime, input))
    out.items.push_back(follow(runtime, element, *bound[0], bound[1].value_or(None{})));
  return out;
}

Value map(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (arguments.positional.empty()) {
    if (std::ranges::none_of(arguments.named, [](const auto& named) { return named.first == "attribute"; }))
      throw Failure("map requires a filter argument");
    return map_attribute(runtime, input, arguments);
  }
  const std::string& name = expect_text(arguments.positional[0], "the name of a filter");
  const Filter* filter = find_filter(name);
  if (!filter) throw Failure("No filter named '{}'.", name);
  const Arguments rest = behind(arguments, 1);
  List out;
  for (const Value& element : elements(runtime, input))
    out.items.push_back(filter->function(runtime, element, rest));
  return out;
}

/// What elements are compared by: themselves or an attribute, text without its case unless `case_sensitive`.
struct Key {
  std::optional<Value> attribute = {};
  bool case_sensitive = false;

  Value operator()(Runtime& runtime, const Value& element) const {
    const bool by_attribute = attribute && !attribute->is_none();
    const Value key = by_attribute ? follow(runtime, element, *attribute) : element;
    require_defined(key);
    return key.text() && !case_sensitive ? Value(lower(*key.text())) : key;
  }
};

bool flag(const std::optional<Value>& argument) {
  return argument && argument->truth();
}

std::vector<Value> sorted(Runtime& runtime, const std::vector<Value>& elements, const Key& key,
                          bool reverse) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& element : elements) keyed.emplace_back(key(runtime, element), element);
  // A reversed sort keeps the order of equal elements too.
  std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
    runtime.budget.spend(std::min(a.first.extent().weight, b.first.extent().weight));
    return reverse ? order(b.first, a.first) < 0 : order(a.first, b.first) < 0;
  });
  std::vector<Value> out;
  for (auto& [unused, element] : keyed) out.push_back(std::move(element));
  return out;
}

Value sort(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("sort", {"reverse", "case_sensitive", "attribute"});
  return List{sorted(runtime, elements(runtime, input), {bound[2], flag(bound[1])}, flag(bound[0]))};
}

Value dictsort(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("dictsort", {"case_sensitive", "by", "reverse"});
  if (!input.dict()) throw Failure("dictsort needs a mapping, not {}", input.type_name());
  const std::string by = bound[1] ? expect_text(*bound[1], "by") : "key";
  if (by != "key" && by != "value") throw Failure("You can only sort by either \"key\" or \"value\"");
  const Value pairs = items_of(runtime, *input.dict());
  const Value place = int64_t{by == "key" ? 0 : 1};
  return List{sorted(runtime, pairs.list()->items, {place, flag(bound[0])}, flag(bound[2]))};
}

Value unique(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("unique", {"case_sensitive", "attribute"});
  const Key key{bound[1], flag(bound[0])};
  Dict seen;
  List kept;
  for (const Value& element : elements(runtime, input)) {
    const Value id = key(runtime, element);
    runtime.budget.spend(id.text() ? 1
                                   : id.extent().weight * static_cast<int64_t>(seen.entries().size() + 1));
    if (seen.find(id)) continue;
    seen.set(id, None{});
    kept.items.push_back(element);
  }
  return kept;
}

template <bool largest>
Value extreme(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind(largest ? "max" : "min", {"case_sensitive", "attribute"});
  const auto all = elements(runtime, input);
  if (all.empty())
    return Undefined{std::make_shared<const std::string>("No aggregated item, sequence was empty.")};
  return sorted(runtime, all, {bound[1], flag(bound[0])}, largest).front();
}

/// Tuples of (value of the attribute, elements that have it).
Value groupby(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("groupby", {"attribute", "default", "case_sensitive"});
  if (!bound[0]) throw Failure("groupby() missing 1 required positional argument: 'attribute'");
  const Key key{bound[0], flag(bound[2])};
  List groups, members;
  Value current;
  const auto close_group = [&] {
    if (members.items.empty()) return;
    const Value grouper = follow(runtime, members.items[0], *bound[0]);
    groups.items.emplace_back(List{{grouper, std::exchange(members, {})}, /*is_tuple=*/true});
  };
  for (const Value& element : sorted(runtime, elements(runtime, input), key, false)) {
    const Value id = key(runtime, element);
    if (!equal(id, current)) close_group();
    current = id;
    members.items.push_back(element);
  }
  close_group();
  return groups;
}

constexpr Filter kFilters[] = {{"dictsort", dictsort},
                               {"groupby", groupby},
                               {"map", map},
                               {"max", extreme<true>},
                               {"min", extreme<false>},
                               {"reject", choose<false, false>},
                               {"rejectattr", choose<false, true>},
                               {"select", choose<true, false>},
                               {"selectattr", choose<true, true>},
                               {"sort", sort},
                               {"unique", unique}};

}  // namespace

std::span<const Filter> selection_filters() {
  return kFilters;
}

}  // namespace tessera::jinja
