// Runs a syntax tree.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/chat/jinja/arguments.h"
#include "tessera/chat/jinja/runtime.h"
#include "tessera/chat/jinja/syntax.h"

namespace tessera::jinja {

/// The variables of a block, in front of those of the blocks around it.
class Scope {
 public:
  explicit Scope(std::shared_ptr<const Scope> parent = nullptr) : parent_(std::move(parent)) {}

  /// `name` is kept as a view.
  void set(std::string_view name, Value value);
  /// Null where no block has a variable of this name.
  const Value* find(std::string_view name) const;

 private:
  std::vector<std::pair<std::string_view, Value>> variables_;
  std::shared_ptr<const Scope> parent_;
};
using ScopePtr = std::shared_ptr<Scope>;

/// One rendering. What goes wrong throws Failure; place() then tells where.
class Evaluator {
 public:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  explicit Evaluator(Runtime& runtime) : runtime_(runtime) {}

  Value evaluate(const Expression& expression, const ScopePtr& scope);
  /// Appends what the block prints to `out`.
  Flow execute(const Block& block, const ScopePtr& scope, std::string& out);

  Value call(const Value& callee, const Arguments& arguments);
  Arguments evaluate(const CallArguments& arguments, const ScopePtr& scope);
  /// The filter's result; `innermost` is the input of the first filter of a block's chain.
  Value filter(const Filtered& filtered, const Value& innermost, Place place, const ScopePtr& scope);
  /// The macro as something to be called.
  Value define(const MacroDefinition& macro, const ScopePtr& scope);
  void assign(const Target& target, const Value& value, const ScopePtr& scope);
  /// Goes through `iterable`, `depth` loops deep when it has called itself.
  Flow loop(const For& node, const Value& iterable, int depth, const ScopePtr& scope, std::string& out);
  /// Appends. Throws Failure where `out` becomes too long.
  void print(std::string_view text, std::string& out) const;

  Runtime& runtime() { return runtime_; }
  Place place() const { return place_; }
  void at(Place place) { place_ = place; }

 private:
  Runtime& runtime_;
  Place place_;
  int depth_ = 0;
};

}  // namespace tessera::jinja
