// Methods of text, lists and dicts.
#include "tessera/chat/jinja/methods.h"

#include <algorithm>
#include <span>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/text.h"
#include "tessera/chat/jinja/text_operations.h"
#include "tessera/chat/jinja/written.h"
#include "tessera/text/unicode.h"

namespace tessera::jinja {
namespace {

List list_of(const std::vector<std::string_view>& parts) {
  List list;
  for (std::string_view part : parts) list.items.emplace_back(part);
  return list;
}

/// The optional argument; null when it is absent or none.
const Value* given(const std::optional<Value>& argument) {
  return argument && !argument->is_none() ? &*argument : nullptr;
}

const std::string& self_text(Runtime& runtime, const Value& self) {
  runtime.budget.spend_text(self.text()->size());
  return *self.text();
}

// ---- text

template <Side side>
Value strip_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind("strip", {"chars"});
  const Value* set = given(bound[0]);
  return Value(strip(self_text(runtime, self), side, set ? &expect_text(*set, "chars") : nullptr));
}

template <bool from_right>
Value split_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind("split", {"sep", "maxsplit"});
  const int64_t wanted = given(bound[1]) ? expect_integer(*bound[1], "maxsplit") : -1;
  const size_t most = wanted < 0 ? SIZE_MAX : static_cast<size_t>(wanted);
  const std::string& text = self_text(runtime, self);
  runtime.budget.spend(static_cast<int64_t>(text.size()) / 16);  // parts are values
  const Value* separator = given(bound[0]);
  if (!separator) {
    if (from_right && wanted >= 0) throw Failure("rsplit() without separator takes no maxsplit here");
    return list_of(split_words(text, most));
  }
  const std::string& sep = expect_text(*separator, "sep");
  if (sep.empty()) throw Failure("empty separator");
  return list_of(split(text, sep, most, from_right));
}

Value splitlines(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind("splitlines", {"keepends"});
  const std::string& text = self_text(runtime, self);
  runtime.budget.spend(static_cast<int64_t>(text.size()) / 16);
  return list_of(split_lines(text, bound[0] && bound[0]->truth()));
}

/// Whether `text` begins (or ends) with the argument or one of a tuple.
template <bool at_start>
Value affix_method(Runtime&, const Value& self, const Arguments& arguments) {
  const std::string_view text = *self.text();
  const Value wanted = arguments.only(at_start ? "startswith" : "endswith", "affix");
  const auto matches = [&](const Value& affix) {
    const std::string& part = expect_text(affix, "the argument of startswith() or endswith()");
    return at_start ? text.starts_with(part) : text.ends_with(part);
  };
  if (const List* list = wanted.list(); list && list->is_tuple)
    return std::ranges::any_of(list->items, matches);
  return matches(wanted);
}

template <bool at_start>
Value remove_affix(Runtime&, const Value& self, const Arguments& arguments) {
  std::string_view text = *self.text();
  const Value wanted = arguments.only(at_start ? "removeprefix" : "removesuffix", "affix");
  const std::string& part = expect_text(wanted, "affix");
  if (at_start && text.starts_with(part)) text.remove_prefix(part.size());
  if (!at_start && text.ends_with(part)) text.remove_suffix(part.size());
  return Value(text);
}

Value replace_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind("replace", {"old", "new", "count"});
  if (!bound[0] || !bound[1]) throw Failure("replace() takes at least 2 arguments");
  const int64_t most = given(bound[2]) ? expect_integer(*bound[2], "count") : -1;
  return replace(runtime, self_text(runtime, self), expect_text(*bound[0], "old"),
                 expect_text(*bound[1], "new"), most);
}

/// find, rfind, index: the position in code points.
template <bool from_right, bool required>
Value find_text(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::string& text = self_text(runtime, self);
  const Value wanted = arguments.only("find", "sub");
  const std::string& part = expect_text(wanted, "sub");
  const size_t at = from_right ? text.rfind(part) : text.find(part);
  if (at != std::string::npos) return static_cast<int64_t>(length(std::string_view(text).substr(0, at)));
  if (required) throw Failure("substring not found");
  return int64_t{-1};
}

Value count_text(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::string& text = self_text(runtime, self);
  const Value wanted = arguments.only("count", "sub");
  const std::string& part = expect_text(wanted, "sub");
  if (part.empty()) return static_cast<int64_t>(length(text)) + 1;
  return static_cast<int64_t>(split(text, part, SIZE_MAX, false).size()) - 1;
}

Value join_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  std::string out;
  bool first = true;
  for (const Value& item : elements(runtime, arguments.only("join", "iterable"))) {
    const std::string& part = expect_text(item, "every item of join()");
    runtime.budget.spend_text(part.size() + self.text()->size());
    if (!std::exchange(first, false)) out += *self.text();
    out += part;
  }
  return out;
}

template <bool from_right>
Value partition(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::string_view text = self_text(runtime, self);
  const Value wanted = arguments.only("partition", "sep");
  const std::string& sep = expect_text(wanted, "sep");
  if (sep.empty()) throw Failure("empty separator");
  const size_t at = from_right ? text.rfind(sep) : text.find(sep);
  List parts{.is_tuple = true};
  if (at != std::string_view::npos) {
    parts.items = {Value(text.substr(0, at)), Value(sep), Value(text.substr(at + sep.size()))};
  } else {
    parts.items = {Value(text), Value(""), Value("")};
    if (from_right) std::swap(parts.items[0], parts.items[2]);
  }
  return parts;
}

template <std::string (*change)(std::string_view)>
Value changed(Runtime& runtime, const Value& self, const Arguments& arguments) {
  arguments.bind("the method", {});
  return change(self_text(runtime, self));
}

template <bool (*holds)(char32_t)>
Value all_characters(Runtime& runtime, const Value& self, const Arguments& arguments) {
  arguments.bind("the method", {});
  bool all = !self.text()->empty();
  for_each_code_point(self_text(runtime, self), [&](char32_t c, size_t, size_t) { all = all && holds(c); });
  return all;
}

bool is_digit(char32_t c) {
  return c >= '0' && c <= '9';
}

// ---- lists and dicts

Value list_index(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value wanted = arguments.only("index", "value");
  runtime.budget.spend(self.extent().weight);
  const auto& items = self.list()->items;
  const auto found = std::ranges::find_if(items, [&](const Value& item) { return equal(item, wanted); });
  if (found == items.end()) throw Failure("{} is not in {}", printed(runtime, wanted), self.type_name());
  return static_cast<int64_t>(found - items.begin());
}

Value list_count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value wanted = arguments.only("count", "value");
  runtime.budget.spend(self.extent().weight);
  return static_cast<int64_t>(
      std::ranges::count_if(self.list()->items, [&](const Value& item) { return equal(item, wanted); }));
}

Value copy(Runtime&, const Value& self, const Arguments&) {
  return self;
}

Value dict_get(Runtime&, const Value& self, const Arguments& arguments) {
  const auto bound = arguments.bind("get", {"key", "default"});
  if (!bound[0]) throw Failure("get expected at least 1 argument, got 0");
  const Value* found = self.dict()->find(*bound[0]);
  return found ? *found : bound[1].value_or(None{});
}

Value dict_items(Runtime& runtime, const Value& self, const Arguments&) {
  return items_of(runtime, *self.dict());
}

Value dict_keys(Runtime& runtime, const Value& self, const Arguments&) {
  return List{elements(runtime, self)};
}

Value dict_values(Runtime& runtime, const Value& self, const Arguments&) {
  List values;
  for (const auto& entry : self.dict()->entries()) values.items.push_back(entry.second);
  runtime.budget.spend(static_cast<int64_t>(values.items.size()));
  return values;
}

constexpr Method kTextMethods[] = {{"capitalize", changed<capitalize>},
                                   {"count", count_text},
                                   {"endswith", affix_method<false>},
                                   {"find", find_text<false, false>},
                                   {"index", find_text<false, true>},
                                   {"isdigit", all_characters<is_digit>},
                                   {"isspace", all_characters<is_space>},
                                   {"join", join_method},
                                   {"lower", changed<lower>},
                                   {"lstrip", strip_method<Side::kLeft>},
                                   {"partition", partition<false>},
                                   {"removeprefix", remove_affix<true>},
                                   {"removesuffix", remove_affix<false>},
                                   {"replace", replace_method},
                                   {"rfind", find_text<true, false>},
                                   {"rpartition", partition<true>},
                                   {"rsplit", split_method<true>},
                                   {"rstrip", strip_method<Side::kRight>},
                                   {"split", split_method<false>},
                                   {"splitlines", splitlines},
                                   {"startswith", affix_method<true>},
                                   {"strip", strip_method<Side::kBoth>},
                                   {"title", changed<title>},
                                   {"upper", changed<upper>}};
constexpr Method kListMethods[] = {{"copy", copy}, {"count", list_count}, {"index", list_index}};
constexpr Method kDictMethods[] = {
    {"copy", copy}, {"get", dict_get}, {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values}};

constexpr std::string_view kListMutators[] = {"append", "clear",  "extend",  "insert",
                                              "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kDictMutators[] = {"clear", "pop", "popitem", "setdefault", "update"};

}  // namespace

const Method* find_method(const Value& value, std::string_view name) {
  std::span<const Method> methods;
  if (value.text()) methods = kTextMethods;
  if (value.list()) methods = kListMethods;
  if (value.dict()) methods = kDictMethods;
  const auto found = std::ranges::find(methods, name, &Method::name);
  return found == methods.end() ? nullptr : &*found;
}

bool is_mutator(const Value& value, std::string_view name) {
  std::span<const std::string_view> names;
  if (value.list() && !value.list()->is_tuple) names = kListMutators;
  if (value.dict()) names = kDictMutators;
  return std::ranges::find(names, name) != names.end();
}

}  // namespace tessera::jinja
