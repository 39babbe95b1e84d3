// Values: truth, equality, order.
#include "tessera/chat/jinja/value.h"

#include <algorithm>

namespace tessera::jinja {
namespace {

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
// C++20 knows it by itself, clang 14 does not.
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

void include(Extent& whole, const Value& part) {
  const Extent extent = part.extent();
  whole.depth = std::max(whole.depth, extent.depth + 1);
  if (whole.depth > kMaxDepth) throw Failure("values are nested more than {} deep", kMaxDepth);
  whole.weight = std::min(whole.weight + extent.weight, int64_t{1} << 50);
}

/// Python compares the elements of two sequences until they differ.
std::partial_ordering order_lists(const List& a, const List& b) {
  const size_t common = std::min(a.items.size(), b.items.size());
  for (size_t i = 0; i < common; ++i) {
    if (!equal(a.items[i], b.items[i])) return order(a.items[i], b.items[i]);
  }
  return a.items.size() <=> b.items.size();
}

bool equal_dicts(const Dict& a, const Dict& b) {
  return a.entries().size() == b.entries().size() && std::ranges::all_of(a.entries(), [&](const auto& entry) {
           const Value* other = b.find(entry.first);
           return other && equal(entry.second, *other);
         });
}

}  // namespace

Value::Value(List list) {
  list.extent = {};
  for (const Value& item : list.items) include(list.extent, item);
  data_ = std::make_shared<const List>(std::move(list));
}

Value::Value(Dict dict) {
  dict.extent_ = {};
  for (const auto& [key, value] : dict.entries_) {
    include(dict.extent_, key);
    include(dict.extent_, value);
  }
  data_ = std::make_shared<const Dict>(std::move(dict));
}

Value::Value(BoundMethod method) : data_(std::make_shared<const BoundMethod>(std::move(method))) {}

bool Value::truth() const {
  return std::visit(
      Overloaded{[](const Undefined&) { return false; }, [](None) { return false; }, [](bool b) { return b; },
                 [](int64_t i) { return i != 0; }, [](double d) { return d != 0; },
                 [](const std::shared_ptr<const std::string>& text) { return !text->empty(); },
                 [](const std::shared_ptr<const List>& list) { return !list->items.empty(); },
                 [](const std::shared_ptr<const Dict>& dict) { return !dict->entries().empty(); },
                 [](const std::shared_ptr<const BoundMethod>&) { return true; },
                 [](Object*) { return true; }},
      data_);
}

std::string_view Value::type_name() const {
  return std::visit(
      Overloaded{[](const Undefined&) -> std::string_view { return "Undefined"; },
                 [](None) -> std::string_view { return "NoneType"; },
                 [](bool) -> std::string_view { return "bool"; },
                 [](int64_t) -> std::string_view { return "int"; },
                 [](double) -> std::string_view { return "float"; },
                 [](const std::shared_ptr<const std::string>&) -> std::string_view { return "str"; },
                 [](const std::shared_ptr<const List>& list) -> std::string_view {
                   return list->is_tuple ? "tuple" : "list";
                 },
                 [](const std::shared_ptr<const Dict>&) -> std::string_view { return "dict"; },
                 [](const std::shared_ptr<const BoundMethod>&) -> std::string_view { return "method"; },
                 [](Object* object) { return object->type_name(); }},
      data_);
}

Extent Value::extent() const {
  if (const std::string* t = text()) return {.weight = static_cast<int64_t>(t->size() / 256) + 1};
  if (const List* l = list()) return l->extent;
  if (const Dict* d = dict()) return d->extent();
  if (const BoundMethod* m = method()) {
    Extent extent;
    include(extent, m->self);
    return extent;
  }
  return {};
}

void Dict::set(const Value& key, Value value) {
  require_hashable(key);
  if (const Value* present = find(key)) {
    entries_[static_cast<size_t>(
                 std::ranges::find(entries_, present, [](const Entry& e) { return &e.second; }) -
                 entries_.begin())]
        .second = std::move(value);
    return;
  }
  entries_.emplace_back(key, std::move(value));
  if (const std::string* text = key.text()) text_keys_.emplace(*text, entries_.size() - 1);
}

const Value* Dict::find_text(std::string_view key) const {
  const auto found = text_keys_.find(key);
  return found == text_keys_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find(const Value& key) const {
  if (const std::string* text = key.text()) return find_text(*text);
  const auto found =
      std::ranges::find_if(entries_, [&](const Entry& entry) { return equal(entry.first, key); });
  return found == entries_.end() ? nullptr : &found->second;
}

void require_hashable(const Value& value) {
  const bool is_list = value.list() && !value.list()->is_tuple;
  if (is_list || value.dict()) throw Failure("unhashable type: '{}'", value.type_name());
}

Value Object::attribute(Runtime&, std::string_view) {
  return {};
}

Value Object::call(Runtime&, const Arguments&) {
  throw Failure("'{}' object is not callable", type_name());
}

std::optional<int64_t> integer_of(const Value& value) {
  if (const bool* boolean = value.boolean()) return *boolean ? 1 : 0;
  if (const auto* integer = std::get_if<int64_t>(&value.data())) return *integer;
  return std::nullopt;
}

std::optional<double> number_of(const Value& value) {
  if (const auto* number = std::get_if<double>(&value.data())) return *number;
  if (const auto integer = integer_of(value)) return static_cast<double>(*integer);
  return std::nullopt;
}

bool equal(const Value& a, const Value& b) {
  if (const auto x = integer_of(a), y = integer_of(b); x && y) return *x == *y;
  if (const auto x = number_of(a), y = number_of(b); x && y) return *x == *y;
  if (a.data().index() != b.data().index()) return false;
  if (const std::string* text = a.text()) return *text == *b.text();
  if (const List* list = a.list())
    return list->is_tuple == b.list()->is_tuple && std::ranges::equal(list->items, b.list()->items, equal);
  if (const Dict* dict = a.dict()) return equal_dicts(*dict, *b.dict());
  if (const BoundMethod* method = a.method())
    return method->function == b.method()->function && equal(method->self, b.method()->self);
  return a.object() == b.object();  // undefined and none equal their like
}

std::partial_ordering order(const Value& a, const Value& b) {
  if (const auto x = integer_of(a), y = integer_of(b); x && y) return *x <=> *y;
  if (const auto x = number_of(a), y = number_of(b); x && y) return *x <=> *y;
  if (a.text() && b.text()) return *a.text() <=> *b.text();  // UTF-8 sorts as code points do
  if (a.list() && b.list() && a.list()->is_tuple == b.list()->is_tuple)
    return order_lists(*a.list(), *b.list());
  throw Failure("'<' not supported between instances of '{}' and '{}'", a.type_name(), b.type_name());
}

}  // namespace tessera::jinja
