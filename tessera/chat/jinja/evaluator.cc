// Scopes, calls, assignment and evaluation of expressions.
#include "tessera/chat/jinja/evaluator.h"

#include <algorithm>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/filters.h"
#include "tessera/chat/jinja/functions.h"
#include "tessera/chat/jinja/nesting.h"
#include "tessera/chat/jinja/predicates.h"
#include "tessera/chat/jinja/written.h"

namespace tessera::jinja {
namespace {

Value undefined(std::string reason) {
  return Undefined{std::make_shared<const std::string>(std::move(reason))};
}

/// Evaluates a node of each kind.
class Visitor {
 public:
  Visitor(Evaluator& evaluator, Place place, const ScopePtr& scope)
      : evaluator_(evaluator), runtime_(evaluator.runtime()), place_(place), scope_(scope) {}

  Value operator()(const Constant& node) { return node.value; }

  Value operator()(const Variable& node) {
    if (const Value* found = scope_->find(node.name)) return *found;
    Value function = global_function(node.name);
    return function.is_undefined() ? undefined(fmt::format("'{}' is undefined", node.name)) : function;
  }

  Value operator()(const Sequence& node) {
    List list{.is_tuple = node.is_tuple};
    for (const ExpressionPtr& item : node.items) list.items.push_back(value(item));
    return list;
  }

  Value operator()(const Mapping& node) {
    Dict dict;
    for (const auto& [key, member] : node.entries) {
      Value name = value(key);
      dict.set(name, value(member));
    }
    return dict;
  }

  Value operator()(const Attribute& node) {
    const Value object = value(node.object);
    return attribute(here(), object, node.name);
  }

  Value operator()(const Item& node) {
    const Value object = value(node.object), key = value(node.key);
    return item(here(), object, key);
  }

  Value operator()(const Slice& node) {
    const Value object = value(node.object);
    const Bounds bounds{bound(node.start), bound(node.stop), bound(node.step)};
    return slice(here(), object, bounds);
  }

  Value operator()(const Call& node) {
    const Value callee = value(node.callee);
    const Arguments arguments = evaluator_.evaluate(node.arguments, scope_);
    here();
    return evaluator_.call(callee, arguments);
  }

  Value operator()(const Filtered& node) { return evaluator_.filter(node, {}, place_, scope_); }

  Value operator()(const Test& node) {
    const Value tested = value(node.value);
    const Arguments arguments = evaluator_.evaluate(node.arguments, scope_);
    Runtime& runtime = here();
    return require_predicate(node.name).function(runtime, tested, arguments) != node.negated;
  }

  Value operator()(const Not& node) { return !value(node.value).truth(); }

  Value operator()(const Sign& node) {
    const Value number = value(node.value);
    here();
    const Value negative = negate(number);
    return node.negative ? negative : negate(negative);
  }

  Value operator()(const Calculation& node) {
    const Value left = value(node.left), right = value(node.right);
    return calculate(here(), node.operation, left, right);
  }

  Value operator()(const Concatenation& node) {
    std::string text;
    for (const ExpressionPtr& part : node.parts) {
      const Value evaluated = value(part);
      text += printed(here(), evaluated);
      runtime_.budget.spend_text(text.size());
    }
    return text;
  }

  Value operator()(const Chain& node) {
    Value left = value(node.first);
    for (const auto& [comparison, operand] : node.rest) {
      Value right = value(operand);
      if (!compare(here(), comparison, left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  Value operator()(const Logic& node) {
    for (size_t i = 0; i + 1 < node.parts.size(); ++i) {
      if (Value part = value(node.parts[i]); part.truth() != node.is_and) return part;
    }
    return value(node.parts.back());
  }

  Value operator()(const Conditional& node) {
    if (value(node.condition).truth()) return value(node.value);
    if (node.otherwise) return value(node.otherwise);
    return undefined(
        fmt::format("the inline if-expression on line {} evaluated to false and no else section was defined.",
                    place_.line));
  }

 private:
  Value value(const ExpressionPtr& expression) { return evaluator_.evaluate(*expression, scope_); }

  /// What comes next, done in this node and not in a part of it, may fail.
  Runtime& here() {
    evaluator_.at(place_);
    return runtime_;
  }

  std::optional<int64_t> bound(const ExpressionPtr& expression) {
    if (!expression) return std::nullopt;
    const Value number = value(expression);
    if (number.is_none()) return std::nullopt;
    here();
    return expect_integer(number, "a bound of a slice");
  }

  Evaluator& evaluator_;
  Runtime& runtime_;
  const Place place_;
  const ScopePtr& scope_;
};

}  // namespace

void Scope::set(std::string_view name, Value value) {
  const auto known = std::ranges::find(variables_, name, &std::pair<std::string_view, Value>::first);
  if (known != variables_.end()) {
    known->second = std::move(value);
  } else {
    variables_.emplace_back(name, std::move(value));
  }
}

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope; scope = scope->parent_.get()) {
    const auto known = std::ranges::find(scope->variables_, name, &std::pair<std::string_view, Value>::first);
    if (known != scope->variables_.end()) return &known->second;
  }
  return nullptr;
}

Value Evaluator::evaluate(const Expression& expression, const ScopePtr& scope) {
  const Nesting nesting(runtime_.budget, depth_);
  at(expression.place);
  runtime_.budget.spend(1);
  return std::visit(Visitor(*this, expression.place, scope), expression.node);
}

Value Evaluator::call(const Value& callee, const Arguments& arguments) {
  require_defined(callee);
  if (const BoundMethod* method = callee.method()) return method->function(runtime_, method->self, arguments);
  if (Object* object = callee.object()) return object->call(runtime_, arguments);
  throw Failure("'{}' object is not callable", callee.type_name());
}

Arguments Evaluator::evaluate(const CallArguments& given, const ScopePtr& scope) {
  Arguments arguments;
  for (const ExpressionPtr& argument : given.positional)
    arguments.positional.push_back(evaluate(*argument, scope));
  for (const auto& [name, argument] : given.named)
    arguments.named.emplace_back(name, evaluate(*argument, scope));
  if (given.more_positional) {
    for (Value& more : elements(runtime_, evaluate(*given.more_positional, scope)))
      arguments.positional.push_back(std::move(more));
  }
  if (given.more_named) {
    const Value more = evaluate(*given.more_named, scope);
    if (!more.dict()) throw Failure("what follows ** must be a mapping, not {}", more.type_name());
    for (const auto& [name, value] : more.dict()->entries())
      arguments.named.emplace_back(expect_text(name, "the name of an argument"), value);
  }
  return arguments;
}

Value Evaluator::filter(const Filtered& filtered, const Value& innermost, Place place,
                        const ScopePtr& scope) {
  Value input = innermost;
  if (filtered.input) {
    const auto* inner = std::get_if<Filtered>(&filtered.input->node);
    input =
        inner ? filter(*inner, innermost, filtered.input->place, scope) : evaluate(*filtered.input, scope);
  }
  const Arguments arguments = evaluate(filtered.arguments, scope);
  at(place);
  runtime_.budget.spend(1);
  const Filter* function = find_filter(filtered.name);
  if (!function) throw Failure("No filter named '{}'.", filtered.name);
  return function->function(runtime_, input, arguments);
}

void Evaluator::assign(const Target& target, const Value& value, const ScopePtr& scope) {
  if (!target.parts.empty()) {
    const std::vector<Value> values = elements(runtime_, value);
    if (values.size() < target.parts.size())
      throw Failure("not enough values to unpack (expected {}, got {})", target.parts.size(), values.size());
    if (values.size() > target.parts.size())
      throw Failure("too many values to unpack (expected {})", target.parts.size());
    for (size_t i = 0; i < values.size(); ++i) assign(target.parts[i], values[i], scope);
  } else if (target.attribute.empty()) {
    scope->set(target.name, value);
  } else {
    const Value* found = scope->find(target.name);
    auto* space = found ? dynamic_cast<Namespace*>(found->object()) : nullptr;
    if (!space) throw Failure("cannot assign attribute on non-namespace object");
    space->set(target.attribute, value);
  }
}

void Evaluator::print(std::string_view text, std::string& out) const {
  const size_t most = runtime_.budget.limits().output_bytes;
  if (out.size() + text.size() > most) throw Failure("the text is longer than {} bytes", most);
  out += text;
}

}  // namespace tessera::jinja
