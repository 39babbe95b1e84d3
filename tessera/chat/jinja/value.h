// The values of a template: Python's, as far as templates see them. Immutable but for namespaces.
#pragma once

#include <compare>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "tessera/chat/jinja/budget.h"

namespace tessera::jinja {

class Value;
struct List;
class Dict;
class Object;
struct BoundMethod;

/// What a missing variable or attribute gives. Printed it is empty; anything else but a test of it fails.
struct Undefined {
  std::shared_ptr<const std::string> reason = {};  ///< such as "'x' is undefined"
};
struct None {};

/// Values inside each other at most: what walks through them recurses.
inline constexpr int kMaxDepth = 100;

/// How large a value is with all that it holds; what it holds twice counts twice.
struct Extent {
  int depth = 0;
  int64_t weight = 1;  ///< steps that it takes to look at all of it
};

class Value {
 public:
  using Data = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
                            std::shared_ptr<const List>, std::shared_ptr<const Dict>,
                            std::shared_ptr<const BoundMethod>, Object*>;

  Value() = default;
  Value(Undefined undefined) : data_(std::move(undefined)) {}
  Value(None none) : data_(none) {}
  template <std::same_as<bool> Bool>
  Value(Bool boolean) : data_(boolean) {}
  Value(int64_t integer) : data_(integer) {}
  Value(double number) : data_(number) {}
  Value(std::string text) : data_(std::make_shared<const std::string>(std::move(text))) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(List list);
  Value(Dict dict);
  Value(BoundMethod method);
  /// The object must outlive the value: it is a constant or belongs to the Runtime.
  Value(Object* object) : data_(object) {}

  const Data& data() const { return data_; }
  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  const bool* boolean() const { return std::get_if<bool>(&data_); }
  /// Null where the value is of another type.
  const std::string* text() const { return pointee<std::string>(); }
  const List* list() const { return pointee<List>(); }
  const Dict* dict() const { return pointee<Dict>(); }
  const BoundMethod* method() const { return pointee<BoundMethod>(); }
  Object* object() const {
    return std::holds_alternative<Object*>(data_) ? std::get<Object*>(data_) : nullptr;
  }

  /// Python's bool().
  bool truth() const;
  /// The name of Python's type: "str", "list", "NoneType".
  std::string_view type_name() const;
  Extent extent() const;

 private:
  template <class T>
  const T* pointee() const {
    const auto* pointer = std::get_if<std::shared_ptr<const T>>(&data_);
    return pointer ? pointer->get() : nullptr;
  }

  Data data_;
};

/// A list or a tuple.
struct List {
  std::vector<Value> items = {};
  bool is_tuple = false;
  Extent extent = {};  ///< filled in when it becomes a Value
};

/// Keeps the order in which keys came.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  const std::vector<Entry>& entries() const { return entries_; }
  const Extent& extent() const { return extent_; }

  /// Throws Failure when the key cannot be one.
  void set(const Value& key, Value value);
  /// Null where there is none.
  const Value* find(const Value& key) const;
  const Value* find_text(std::string_view key) const;

 private:
  friend Value::Value(Dict);

  std::vector<Entry> entries_;
  std::unordered_map<std::string_view, size_t> text_keys_;  ///< views of the texts in entries_
  Extent extent_ = {};
};

class Runtime;
class Arguments;

/// Something with identity: a namespace, a loop, a macro, a function.
class Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;

  virtual std::string_view type_name() const = 0;
  /// Undefined where there is none of this name.
  virtual Value attribute(Runtime& runtime, std::string_view name);
  virtual bool is_callable() const { return false; }
  virtual Value call(Runtime& runtime, const Arguments& arguments);
};

/// A method of a value that has been looked up and not yet called.
struct BoundMethod {
  using Function = Value (*)(Runtime&, const Value& self, const Arguments&);
  Value self;
  std::string_view name;  ///< of a constant
  Function function;
};

/// Integers and Booleans. Nothing where it is neither.
std::optional<int64_t> integer_of(const Value& value);
/// Any number as a float. Nothing where it is none.
std::optional<double> number_of(const Value& value);

/// Throws Failure where the value cannot be a key of a dict.
void require_hashable(const Value& value);

/// ==. Costs no more than the smaller one's weight.
bool equal(const Value& a, const Value& b);
/// < and its kin. Throws Failure where Python has no order.
std::partial_ordering order(const Value& a, const Value& b);

}  // namespace tessera::jinja
