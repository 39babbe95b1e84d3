// Macros and loops.
#include "tessera/chat/jinja/callables.h"

#include <algorithm>

#include "tessera/chat/jinja/access.h"

namespace tessera::jinja {
namespace {

Value undefined(std::string reason) {
  return Undefined{std::make_shared<const std::string>(std::move(reason))};
}

/// loop.cycle or loop.changed, looked up and not yet called.
class LoopMethod : public Object {
 public:
  LoopMethod(Loop& loop, bool is_cycle) : loop_(loop), is_cycle_(is_cycle) {}
  std::string_view type_name() const override { return "method"; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, const Arguments& arguments) override {
    return is_cycle_ ? loop_.cycle(arguments) : loop_.changed(arguments);
  }

 private:
  Loop& loop_;
  bool is_cycle_;
};

}  // namespace

// ---- Macro

Value Macro::attribute(Runtime&, std::string_view name) {
  return name == "name" ? Value(definition_.name) : Value();
}

void Macro::take_more(const Arguments& arguments, const ScopePtr& inner) const {
  const auto& parameters = definition_.parameters;
  List varargs{.is_tuple = true};
  for (size_t i = parameters.size(); i < arguments.positional.size(); ++i)
    varargs.items.push_back(arguments.positional[i]);
  if (!varargs.items.empty() && !definition_.takes_varargs)
    throw Failure("macro '{}' takes not more than {} argument(s)", definition_.name, parameters.size());
  Dict kwargs;
  Value caller = undefined("No caller defined");
  for (const auto& [name, value] : arguments.named) {
    if (std::ranges::find(parameters, name, &Parameter::name) != parameters.end()) continue;
    if (name == "caller" && definition_.takes_caller) {
      caller = value;
    } else if (definition_.takes_kwargs) {
      kwargs.set(Value(name), value);
    } else {
      throw Failure("macro '{}' takes no keyword argument '{}'", definition_.name, name);
    }
  }
  if (definition_.takes_varargs) inner->set("varargs", std::move(varargs));
  if (definition_.takes_kwargs) inner->set("kwargs", std::move(kwargs));
  if (definition_.takes_caller) inner->set("caller", std::move(caller));
}

void Macro::bind(const Arguments& arguments, const ScopePtr& inner) const {
  take_more(arguments, inner);
  const auto& parameters = definition_.parameters;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, otherwise] = parameters[i];
    const auto named = std::ranges::find(arguments.named, name, &std::pair<std::string, Value>::first);
    if (i < arguments.positional.size()) {
      inner->set(name, arguments.positional[i]);
    } else if (named != arguments.named.end()) {
      inner->set(name, named->second);
    } else {
      inner->set(name, otherwise ? evaluator_.evaluate(*otherwise, inner)
                                 : undefined(fmt::format("parameter '{}' was not provided", name)));
    }
  }
}

Value Macro::call(Runtime&, const Arguments& arguments) {
  const auto inner = std::make_shared<Scope>(scope_);
  bind(arguments, inner);
  std::string out;
  evaluator_.execute(definition_.body, inner, out);
  return out;
}

Value Evaluator::define(const MacroDefinition& macro, const ScopePtr& scope) {
  return runtime_.make<Macro>(*this, macro, scope);
}

// ---- Loop

bool Loop::take() {
  while (next_ < elements_.size()) {
    const Value& element = elements_[next_++];
    if (node_.condition) {
      const auto inner = std::make_shared<Scope>(scope_);
      evaluator_.assign(node_.target, element, inner);
      if (!evaluator_.evaluate(*node_.condition, inner).truth()) continue;
    }
    taken_.push_back(element);
    return true;
  }
  return false;
}

bool Loop::advance() {
  if (index_ + 1 == std::ssize(taken_) && !take()) return false;
  ++index_;
  return true;
}

int64_t Loop::length() {
  while (take()) {
  }
  return std::ssize(taken_);
}

Value Loop::attribute(Runtime& runtime, std::string_view name) {
  if (name == "index") return index_ + 1;
  if (name == "index0") return index_;
  if (name == "first") return index_ == 0;
  if (name == "length") return length();
  if (name == "revindex") return length() - index_;
  if (name == "revindex0") return length() - index_ - 1;
  if (name == "depth") return int64_t{depth_ + 1};
  if (name == "depth0") return int64_t{depth_};
  if (name == "previtem")
    return index_ > 0 ? taken_[static_cast<size_t>(index_ - 1)] : undefined("there is no previous item");
  if (name == "cycle" || name == "changed") return runtime.make<LoopMethod>(*this, name == "cycle");
  if (name != "last" && name != "nextitem") return {};
  const bool has_next = index_ + 1 < std::ssize(taken_) || take();
  if (name == "last") return !has_next;
  return has_next ? taken_[static_cast<size_t>(index_ + 1)] : undefined("there is no next item");
}

Value Loop::call(Runtime&, const Arguments& arguments) {
  if (!node_.recursive) throw Failure("The loop must have the 'recursive' marker to be called recursively.");
  std::string out;
  evaluator_.loop(node_, arguments.only("loop", "iterable"), depth_ + 1, scope_, out);
  return out;
}

Value Loop::cycle(const Arguments& arguments) const {
  if (arguments.positional.empty()) throw Failure("no items for cycling given");
  return arguments.positional[static_cast<size_t>(index_) % arguments.positional.size()];
}

Value Loop::changed(const Arguments& arguments) {
  Value now = List{arguments.positional, /*is_tuple=*/true};
  const bool differs = !last_changed_ || !equal(*last_changed_, now);
  last_changed_ = std::move(now);
  return differs;
}

}  // namespace tessera::jinja
