// Execution of statements.
#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/callables.h"
#include "tessera/chat/jinja/evaluator.h"
#include "tessera/chat/jinja/nesting.h"
#include "tessera/chat/jinja/written.h"

namespace tessera::jinja {
namespace {

using Flow = Evaluator::Flow;

/// Executes a statement of each kind.
class Visitor {
 public:
  Visitor(Evaluator& evaluator, Place place, const ScopePtr& scope, std::string& out)
      : evaluator_(evaluator), place_(place), scope_(scope), out_(out) {}

  Flow operator()(const Text& node) {
    evaluator_.print(node.text, out_);
    return Flow::kNext;
  }

  Flow operator()(const Print& node) {
    const Value value = evaluator_.evaluate(*node.value, scope_);
    evaluator_.print(printed(evaluator_.runtime(), value), out_);
    return Flow::kNext;
  }

  Flow operator()(const If& node) {
    for (const auto& [condition, block] : node.branches) {
      if (evaluator_.evaluate(*condition, scope_).truth()) return evaluator_.execute(block, scope_, out_);
    }
    return evaluator_.execute(node.otherwise, scope_, out_);
  }

  Flow operator()(const For& node) {
    const Value iterable = evaluator_.evaluate(*node.iterable, scope_);
    evaluator_.at(place_);
    return evaluator_.loop(node, iterable, 0, scope_, out_);
  }

  Flow operator()(const Set& node) {
    const Value value = evaluator_.evaluate(*node.value, scope_);
    evaluator_.at(place_);
    evaluator_.assign(node.target, value, scope_);
    return Flow::kNext;
  }

  Flow operator()(const SetBlock& node) {
    std::string text;
    const Flow flow = evaluator_.execute(node.body, std::make_shared<Scope>(scope_), text);
    if (flow == Flow::kNext) evaluator_.assign(node.target, filtered(node.filter, std::move(text)), scope_);
    return flow;
  }

  Flow operator()(const MacroDefinition& node) {
    scope_->set(node.name, evaluator_.define(node, scope_));
    return Flow::kNext;
  }

  Flow operator()(const CallBlock& node) {
    const auto& call = std::get<Call>(node.call->node);
    const Value callee = evaluator_.evaluate(*call.callee, scope_);
    Arguments arguments = evaluator_.evaluate(call.arguments, scope_);
    arguments.named.emplace_back("caller", evaluator_.define(node.caller, scope_));
    evaluator_.at(place_);
    evaluator_.print(printed(evaluator_.runtime(), evaluator_.call(callee, arguments)), out_);
    return Flow::kNext;
  }

  Flow operator()(const FilterBlock& node) {
    std::string text;
    const Flow flow = evaluator_.execute(node.body, std::make_shared<Scope>(scope_), text);
    if (flow == Flow::kNext)
      evaluator_.print(printed(evaluator_.runtime(), filtered(node.filter, std::move(text))), out_);
    return flow;
  }

  Flow operator()(const Scoped& node) {
    const auto inner = std::make_shared<Scope>(scope_);
    for (const auto& [target, expression] : node.variables)
      evaluator_.assign(target, evaluator_.evaluate(*expression, scope_), inner);
    return evaluator_.execute(node.body, inner, out_);
  }

  Flow operator()(const Break&) { return Flow::kBreak; }
  Flow operator()(const Continue&) { return Flow::kContinue; }

 private:
  Value filtered(const ExpressionPtr& filter, std::string text) {
    if (!filter) return text;
    return evaluator_.filter(std::get<Filtered>(filter->node), Value(std::move(text)), filter->place, scope_);
  }

  Evaluator& evaluator_;
  const Place place_;
  const ScopePtr& scope_;
  std::string& out_;
};

}  // namespace

Flow Evaluator::execute(const Block& block, const ScopePtr& scope, std::string& out) {
  const Nesting nesting(runtime_.budget, depth_);
  for (const Statement& statement : block) {
    at(statement.place);
    runtime_.budget.spend(1);
    const Flow flow = std::visit(Visitor(*this, statement.place, scope, out), statement.node);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Flow Evaluator::loop(const For& node, const Value& iterable, int depth, const ScopePtr& scope,
                     std::string& out) {
  auto* const state = runtime_.make<Loop>(*this, node, elements(runtime_, iterable), depth, scope);
  bool ran = false;
  while (state->advance()) {
    ran = true;
    const auto inner = std::make_shared<Scope>(scope);
    inner->set("loop", state);
    assign(node.target, state->current(), inner);
    if (execute(node.body, inner, out) == Flow::kBreak) break;
  }
  return ran ? Flow::kNext : execute(node.otherwise, std::make_shared<Scope>(scope), out);
}

}  // namespace tessera::jinja
