// Reaching into values: attributes, items, slices, iteration.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "tessera/chat/jinja/runtime.h"

namespace tessera::jinja {

/// value.name: a method or attribute, else the member of this name, else Undefined. Throws Failure where
/// `value` is undefined itself.
Value attribute(Runtime& runtime, const Value& value, std::string_view name);
/// value[key]: the member, else the attribute, else Undefined. Throws Failure where `value` is undefined
/// itself.
Value item(Runtime& runtime, const Value& value, const Value& key);
/// The value behind a path such as "function.name" or "0.text", as filters take one. What is undefined on the
/// way becomes `otherwise`, unless that is none.
Value follow(Runtime& runtime, const Value& value, const Value& path, const Value& otherwise = None{});

struct Bounds {
  std::optional<int64_t> start = {}, stop = {}, step = {};
};
/// value[start:stop:step] of a list, a tuple or text. Throws Failure for other values.
Value slice(Runtime& runtime, const Value& value, const Bounds& bounds);

/// What `for` goes through: items, keys, characters; nothing of Undefined. Throws Failure for other values.
std::vector<Value> elements(Runtime& runtime, const Value& value);
/// The entries of a dict as tuples of two.
Value items_of(Runtime& runtime, const Dict& dict);
/// Python's len(). Throws Failure where there is none.
int64_t size_of(Runtime& runtime, const Value& value);

/// Throws Failure if the value is undefined, with what is undefined about it.
void require_defined(const Value& value);

}  // namespace tessera::jinja
