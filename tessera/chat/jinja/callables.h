// What templates define and call themselves: macros and loops.
#pragma once

#include <string>
#include <vector>

#include "tessera/chat/jinja/evaluator.h"

namespace tessera::jinja {

/// A macro with the variables around its definition.
class Macro : public Object {
 public:
  Macro(Evaluator& evaluator, const MacroDefinition& definition, ScopePtr scope)
      : evaluator_(evaluator), definition_(definition), scope_(std::move(scope)) {}

  std::string_view type_name() const override { return "jinja2.runtime.Macro"; }
  Value attribute(Runtime& runtime, std::string_view name) override;
  bool is_callable() const override { return true; }
  /// The text that the body prints.
  Value call(Runtime& runtime, const Arguments& arguments) override;

 private:
  void bind(const Arguments& arguments, const ScopePtr& inner) const;
  void take_more(const Arguments& arguments, const ScopePtr& inner) const;

  Evaluator& evaluator_;
  const MacroDefinition& definition_;
  const ScopePtr scope_;
};

/// A running loop: what the variable `loop` is inside it. Elements are taken one by one, since the condition
/// of a loop may depend on what its body has done.
class Loop : public Object {
 public:
  Loop(Evaluator& evaluator, const For& node, std::vector<Value> elements, int depth, ScopePtr scope)
      : evaluator_(evaluator),
        node_(node),
        elements_(std::move(elements)),
        depth_(depth),
        scope_(std::move(scope)) {}

  /// Goes to the next element that fulfils the condition. False where there is none.
  bool advance();
  /// The element that it is at.
  const Value& current() const { return taken_[static_cast<size_t>(index_)]; }

  std::string_view type_name() const override { return "jinja2.runtime.LoopContext"; }
  Value attribute(Runtime& runtime, std::string_view name) override;
  bool is_callable() const override { return true; }
  /// The loop anew over its argument, as text.
  Value call(Runtime& runtime, const Arguments& arguments) override;
  /// loop.cycle(...): its arguments in turn.
  Value cycle(const Arguments& arguments) const;
  /// loop.changed(...): whether the arguments differ from those of the last call.
  Value changed(const Arguments& arguments);

 private:
  /// Takes one more element. False where there is none.
  bool take();
  int64_t length();

  Evaluator& evaluator_;
  const For& node_;
  const std::vector<Value> elements_;
  const int depth_;
  const ScopePtr scope_;
  std::vector<Value> taken_;  ///< the elements that fulfil the condition, as far as it has been asked
  size_t next_ = 0;           ///< of elements_
  int64_t index_ = -1;        ///< of taken_
  std::optional<Value> last_changed_;
};

}  // namespace tessera::jinja
