// Attributes, items, slices, iteration.
#include "tessera/chat/jinja/access.h"

#include <algorithm>
#include <charconv>

#include "tessera/chat/jinja/methods.h"
#include "tessera/chat/jinja/text.h"
#include "tessera/chat/jinja/written.h"

namespace tessera::jinja {
namespace {

Value undefined(std::string reason) {
  return Undefined{std::make_shared<const std::string>(std::move(reason))};
}

/// How Jinja names the object that lacks something.
std::string owner(const Value& value) {
  return value.is_none() ? "None" : fmt::format("{} object", value.type_name());
}

Value unsafe(const Value& value, std::string_view name) {
  return undefined(
      fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, value.type_name()));
}

Value no_attribute(const Value& value, std::string_view name) {
  if (name.starts_with("__")) return unsafe(value, name);  // Python's own
  return undefined(fmt::format("'{}' has no attribute '{}'", owner(value), name));
}

std::optional<Value> method_or_attribute(Runtime& runtime, const Value& value, std::string_view name) {
  if (Object* object = value.object()) {
    Value found = object->attribute(runtime, name);
    if (found.is_undefined() && !std::get<Undefined>(found.data()).reason) return std::nullopt;
    return found;
  }
  if (is_mutator(value, name)) return unsafe(value, name);
  const Method* method = find_method(value, name);
  if (!method) return std::nullopt;
  return BoundMethod{value, method->name, method->function};
}

std::optional<size_t> position(int64_t index, size_t size) {
  const auto count = static_cast<int64_t>(size);
  if (index < -count || index >= count) return std::nullopt;
  return static_cast<size_t>(index < 0 ? index + count : index);
}

std::optional<Value> member(Runtime& runtime, const Value& value, const Value& key) {
  if (const Dict* dict = value.dict()) {
    const Value* found = dict->find(key);
    return found ? std::optional(*found) : std::nullopt;
  }
  const auto index = integer_of(key);
  if (!index) return std::nullopt;
  if (const List* list = value.list()) {
    const auto place = position(*index, list->items.size());
    return place ? std::optional(list->items[*place]) : std::nullopt;
  }
  if (const std::string* text = value.text()) {
    runtime.budget.spend_text(text->size());
    const auto all = characters(*text);
    const auto place = position(*index, all.size());
    return place ? std::optional(Value(all[*place])) : std::nullopt;
  }
  return std::nullopt;
}

/// The positions that Python's slice takes from a sequence of `size`.
std::vector<size_t> slice_positions(const Bounds& bounds, size_t size) {
  const int64_t step = bounds.step.value_or(1), count = static_cast<int64_t>(size);
  if (step == 0) throw Failure("slice step cannot be zero");
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? count : count - 1;
  const auto clamp = [&](std::optional<int64_t> bound, int64_t otherwise) {
    if (!bound) return otherwise;
    return std::clamp(*bound < 0 ? *bound + count : *bound, low, high);
  };
  const int64_t start = clamp(bounds.start, step > 0 ? low : high),
                stop = clamp(bounds.stop, step > 0 ? high : low);
  std::vector<size_t> positions;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    positions.push_back(static_cast<size_t>(i));
    if (step > count || step < -count) break;  // the next one is outside, and must not overflow
    i += step;
  }
  return positions;
}

}  // namespace

void require_defined(const Value& value) {
  const auto* missing = std::get_if<Undefined>(&value.data());
  if (!missing) return;
  if (missing->reason) throw Failure("{}", *missing->reason);
  throw Failure("the value is undefined");
}

Value attribute(Runtime& runtime, const Value& value, std::string_view name) {
  require_defined(value);
  if (auto found = method_or_attribute(runtime, value, name)) return *found;
  if (auto found = member(runtime, value, Value(name))) return *found;
  return no_attribute(value, name);
}

Value item(Runtime& runtime, const Value& value, const Value& key) {
  require_defined(value);
  if (auto found = member(runtime, value, key)) return *found;
  if (const std::string* name = key.text()) {
    if (auto found = method_or_attribute(runtime, value, *name)) return *found;
    return no_attribute(value, *name);
  }
  return undefined(fmt::format("{} has no element {}", owner(value), printed(runtime, key)));
}

Value follow(Runtime& runtime, const Value& value, const Value& path, const Value& otherwise) {
  Value at = value;
  const auto step = [&](const Value& key) {
    at = item(runtime, at, key);
    if (at.is_undefined() && !otherwise.is_none()) at = otherwise;
  };
  const std::string* text = path.text();
  if (!text) {
    step(path);
    return at;
  }
  for (const std::string_view part : split(*text, ".", SIZE_MAX, false)) {
    int64_t index = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index = error == std::errc() && end == part.data() + part.size();
    step(is_index ? Value(index) : Value(part));
  }
  return at;
}

Value slice(Runtime& runtime, const Value& value, const Bounds& bounds) {
  if (const List* list = value.list()) {
    List part{.is_tuple = list->is_tuple};
    for (size_t i : slice_positions(bounds, list->items.size())) part.items.push_back(list->items[i]);
    runtime.budget.spend(static_cast<int64_t>(part.items.size()));
    return part;
  }
  if (const std::string* text = value.text()) {
    runtime.budget.spend_text(text->size());
    const auto all = characters(*text);
    std::string part;
    for (size_t i : slice_positions(bounds, all.size())) part += all[i];
    return part;
  }
  require_defined(value);
  throw Failure("'{}' object is not subscriptable", value.type_name());
}

std::vector<Value> elements(Runtime& runtime, const Value& value) {
  std::vector<Value> out;
  if (const List* list = value.list()) {
    out = list->items;
  } else if (const Dict* dict = value.dict()) {
    for (const auto& entry : dict->entries()) out.push_back(entry.first);
  } else if (const std::string* text = value.text()) {
    runtime.budget.spend_text(text->size());
    for (std::string_view character : characters(*text)) out.emplace_back(character);
  } else if (!value.is_undefined()) {
    throw Failure("'{}' object is not iterable", value.type_name());
  }
  runtime.budget.spend(static_cast<int64_t>(out.size()));
  return out;
}

Value items_of(Runtime& runtime, const Dict& dict) {
  List pairs;
  for (const auto& [key, value] : dict.entries())
    pairs.items.push_back(List{{key, value}, /*is_tuple=*/true});
  runtime.budget.spend(static_cast<int64_t>(pairs.items.size()));
  return pairs;
}

int64_t size_of(Runtime& runtime, const Value& value) {
  if (const List* list = value.list()) return static_cast<int64_t>(list->items.size());
  if (const Dict* dict = value.dict()) return static_cast<int64_t>(dict->entries().size());
  if (value.is_undefined()) return 0;
  const std::string* text = value.text();
  if (!text) throw Failure("object of type '{}' has no len()", value.type_name());
  runtime.budget.spend_text(text->size());
  return static_cast<int64_t>(length(*text));
}

}  // namespace tessera::jinja
