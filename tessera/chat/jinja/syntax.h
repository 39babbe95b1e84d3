// The syntax tree of a template.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tessera/chat/jinja/operators.h"
#include "tessera/chat/jinja/value.h"

namespace tessera::jinja {

/// Where something stands in the source; both count from 1, columns in bytes.
struct Place {
  int line = 1, column = 1;
};

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct Constant {
  Value value;
};
struct Variable {
  std::string name;
};
/// [a, b] and (a, b)
struct Sequence {
  std::vector<ExpressionPtr> items;
  bool is_tuple;
};
struct Mapping {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};
/// object.name
struct Attribute {
  ExpressionPtr object;
  std::string name;
};
/// object[key]
struct Item {
  ExpressionPtr object, key;
};
/// object[start:stop:step], each may be null
struct Slice {
  ExpressionPtr object, start, stop, step;
};
struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more_positional, more_named;  ///< *a and **b, each may be null
};
struct Call {
  ExpressionPtr callee;
  CallArguments arguments;
};
/// input|name(arguments); in a filter block the first filter's input is null
struct Filtered {
  ExpressionPtr input;
  std::string name;
  CallArguments arguments;
};
/// value is [not] name(arguments)
struct Test {
  ExpressionPtr value;
  std::string name;
  CallArguments arguments;
  bool negated;
};
struct Not {
  ExpressionPtr value;
};
struct Sign {
  ExpressionPtr value;
  bool negative;
};
struct Calculation {
  Arithmetic operation;
  ExpressionPtr left, right;
};
/// a ~ b ~ c
struct Concatenation {
  std::vector<ExpressionPtr> parts;
};
/// a < b < c
struct Chain {
  ExpressionPtr first;
  std::vector<std::pair<Comparison, ExpressionPtr>> rest;
};
/// a and b and c, a or b or c
struct Logic {
  bool is_and;
  std::vector<ExpressionPtr> parts;
};
/// value if condition else otherwise, which may be null
struct Conditional {
  ExpressionPtr condition, value, otherwise;
};

struct Expression {
  Place place;
  std::variant<Constant, Variable, Sequence, Mapping, Attribute, Item, Slice, Call, Filtered, Test, Not, Sign,
               Calculation, Concatenation, Chain, Logic, Conditional>
      node;
};

struct Statement;
using Block = std::vector<Statement>;

/// What is assigned to: a name, an attribute of a namespace, or several of them.
struct Target {
  std::string name, attribute;     ///< attribute empty: a name
  std::vector<Target> parts = {};  ///< not empty: the others are
};

struct Text {
  std::string text;
};
struct Print {
  ExpressionPtr value;
};
struct If {
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
};
struct For {
  Target target;
  ExpressionPtr iterable, condition;  ///< the condition may be null
  bool recursive;
  Block body, otherwise;
};
struct Set {
  Target target;
  ExpressionPtr value;
};
/// {% set name %}...{% endset %}; the filter may be null
struct SetBlock {
  Target target;
  ExpressionPtr filter;
  Block body;
};
struct Parameter {
  std::string name;
  ExpressionPtr otherwise;  ///< may be null
};
struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  Block body;
  // Whether the body names these: then it takes what its parameters do not.
  bool takes_varargs, takes_kwargs, takes_caller;
};
/// {% call(parameters) callee(arguments) %}...{% endcall %}
struct CallBlock {
  MacroDefinition caller;
  ExpressionPtr call;
};
struct FilterBlock {
  ExpressionPtr filter;
  Block body;
};
/// with and generation: a block with variables of its own
struct Scoped {
  std::vector<std::pair<Target, ExpressionPtr>> variables;
  Block body;
};
struct Break {};
struct Continue {};

struct Statement {
  Place place;
  std::variant<Text, Print, If, For, Set, SetBlock, MacroDefinition, CallBlock, FilterBlock, Scoped, Break,
               Continue>
      node;
};

}  // namespace tessera::jinja
