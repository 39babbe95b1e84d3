// Expressions. Precedence, from the loosest: conditional, or, and, not, comparison, + -, ~, * / // %, **,
// sign.
#include <algorithm>
#include <array>

#include "tessera/chat/jinja/parser.h"

namespace tessera::jinja {
namespace {

using Kind = Token::Kind;

template <class Node>
ExpressionPtr make(Place place, Node node) {
  return std::make_unique<const Expression>(Expression{place, std::move(node)});
}

struct Operator {
  std::string_view sign;
  Arithmetic operation;
};
/// From the loosest; ~ stands between the first and the second.
constexpr std::array<std::array<Operator, 4>, 3> kLevels = {
    {{{{"+", Arithmetic::kAdd}, {"-", Arithmetic::kSubtract}, {"", {}}, {"", {}}}},
     {{{"*", Arithmetic::kMultiply},
       {"/", Arithmetic::kDivide},
       {"//", Arithmetic::kFloorDivide},
       {"%", Arithmetic::kModulo}}},
     {{{"**", Arithmetic::kPower}, {"", {}}, {"", {}}, {"", {}}}}}};

constexpr std::pair<std::string_view, Comparison> kComparisons[] = {
    {"==", Comparison::kEqual},     {"!=", Comparison::kNotEqual}, {"<", Comparison::kLess},
    {"<=", Comparison::kLessEqual}, {">", Comparison::kGreater},   {">=", Comparison::kGreaterEqual}};

bool begins_argument(const Token& token) {
  if (token.kind == Kind::kName)
    return !token.is_name("else") && !token.is_name("or") && !token.is_name("and");
  return token.kind == Kind::kString || token.kind == Kind::kNumber || token.is_operator("(") ||
         token.is_operator("[") || token.is_operator("{");
}

}  // namespace

ExpressionPtr ExpressionParser::expression() {
  const Nested nested(*this);
  ExpressionPtr value = logic(/*is_and=*/false);
  while (current().is_name("if")) {
    const Place place = next().place;
    link();
    ExpressionPtr condition = logic(false);
    ExpressionPtr otherwise = skip_name("else") ? expression() : nullptr;
    value = make(place, Conditional{std::move(condition), std::move(value), std::move(otherwise)});
  }
  return value;
}

ExpressionPtr ExpressionParser::logic(bool is_and) {
  const Place place = current().place;
  std::vector<ExpressionPtr> parts;
  do {
    parts.push_back(is_and ? negation() : logic(true));
  } while (skip_name(is_and ? "and" : "or"));
  return parts.size() == 1 ? std::move(parts[0]) : make(place, Logic{is_and, std::move(parts)});
}

ExpressionPtr ExpressionParser::negation() {
  if (!current().is_name("not")) return comparison();
  const Nested nested(*this);
  const Place place = next().place;
  return make(place, Not{negation()});
}

ExpressionPtr ExpressionParser::comparison() {
  const Place place = current().place;
  ExpressionPtr first = arithmetic(0);
  std::vector<std::pair<Comparison, ExpressionPtr>> rest;
  for (;;) {
    const auto known =
        std::ranges::find_if(kComparisons, [&](const auto& c) { return current().is_operator(c.first); });
    std::optional<Comparison> comparison;
    if (known != std::end(kComparisons)) comparison = known->second;
    if (current().is_name("in")) comparison = Comparison::kIn;
    if (current().is_name("not") && ahead().is_name("in")) {
      next();
      comparison = Comparison::kNotIn;
    }
    if (!comparison) break;
    next();
    rest.emplace_back(*comparison, arithmetic(0));
  }
  return rest.empty() ? std::move(first) : make(place, Chain{std::move(first), std::move(rest)});
}

ExpressionPtr ExpressionParser::arithmetic(size_t level) {
  const auto operand = [&] {
    if (level == 0) return concatenation();
    return level + 1 < kLevels.size() ? arithmetic(level + 1) : unary(/*with_filters=*/true);
  };
  ExpressionPtr left = operand();
  for (;;) {
    const auto& operators = kLevels[level];
    const auto known =
        std::ranges::find_if(operators, [&](const Operator& o) { return current().is_operator(o.sign); });
    if (known == operators.end()) return left;
    link();
    const Place place = next().place;
    ExpressionPtr right = operand();
    left = make(place, Calculation{known->operation, std::move(left), std::move(right)});
  }
}

ExpressionPtr ExpressionParser::concatenation() {
  const Place place = current().place;
  std::vector<ExpressionPtr> parts;
  do {
    parts.push_back(arithmetic(1));
  } while (skip_operator("~"));
  return parts.size() == 1 ? std::move(parts[0]) : make(place, Concatenation{std::move(parts)});
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const Nested nested(*this);
  const Place place = current().place;
  ExpressionPtr value;
  if (skip_operator("-")) {
    value = make(place, Sign{unary(false), /*negative=*/true});
  } else if (skip_operator("+")) {
    value = make(place, Sign{unary(false), /*negative=*/false});
  } else {
    value = primary();
  }
  value = postfix(std::move(value));
  return with_filters ? filters_and_tests(std::move(value)) : std::move(value);
}

ExpressionPtr ExpressionParser::primary() {
  const Place place = current().place;
  if (current().kind == Kind::kName) return name_or_constant();
  if (current().kind == Kind::kString) {
    std::string text;
    while (current().kind == Kind::kString) text += next().text;
    return make(place, Constant{Value(std::move(text))});
  }
  if (current().kind == Kind::kNumber) return make(place, Constant{next().number});
  if (current().is_operator("[")) return sequence();
  if (current().is_operator("{")) return mapping();
  if (!skip_operator("(")) fail_unexpected("an expression");
  ExpressionPtr value =
      current().is_operator(")") ? make(place, Sequence{{}, /*is_tuple=*/true}) : tuple(true);
  expect_operator(")");
  return value;
}

ExpressionPtr ExpressionParser::name_or_constant() {
  const Token& token = next();
  if (token.text == "true" || token.text == "True") return make(token.place, Constant{true});
  if (token.text == "false" || token.text == "False") return make(token.place, Constant{false});
  if (token.text == "none" || token.text == "None") return make(token.place, Constant{None{}});
  return make(token.place, Variable{token.text});
}

bool ExpressionParser::at_tuple_end(std::initializer_list<std::string_view> ends) const {
  const Token& token = current();
  return token.kind == Kind::kPrintEnd || token.kind == Kind::kBlockEnd || token.is_operator(")") ||
         std::ranges::any_of(ends, [&](std::string_view end) { return token.is_name(end); });
}

ExpressionPtr ExpressionParser::tuple(bool with_conditional, std::initializer_list<std::string_view> ends) {
  const Place place = current().place;
  std::vector<ExpressionPtr> items;
  bool has_comma = false;
  do {
    if (has_comma && at_tuple_end(ends)) break;
    items.push_back(with_conditional ? expression() : logic(/*is_and=*/false));
  } while (skip_operator(",") && (has_comma = true));
  return has_comma ? make(place, Sequence{std::move(items), /*is_tuple=*/true}) : std::move(items[0]);
}

ExpressionPtr ExpressionParser::sequence() {
  const Place place = next().place;
  std::vector<ExpressionPtr> items;
  while (!current().is_operator("]")) {
    items.push_back(expression());
    if (!skip_operator(",")) break;
  }
  expect_operator("]");
  return make(place, Sequence{std::move(items), /*is_tuple=*/false});
}

ExpressionPtr ExpressionParser::mapping() {
  const Place place = next().place;
  Mapping mapping;
  while (!current().is_operator("}")) {
    ExpressionPtr key = expression();
    expect_operator(":");
    mapping.entries.emplace_back(std::move(key), expression());
    if (!skip_operator(",")) break;
  }
  expect_operator("}");
  return make(place, std::move(mapping));
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr value) {
  for (;; link()) {
    if (current().is_operator(".")) {
      value = attribute(std::move(value));
    } else if (current().is_operator("[")) {
      value = subscript(std::move(value));
    } else if (current().is_operator("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr value) {
  for (;; link()) {
    if (skip_operator("|")) {
      value = filter(std::move(value));
    } else if (current().is_name("is")) {
      value = test(std::move(value));
    } else if (current().is_operator("(")) {
      value = call(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::attribute(ExpressionPtr object) {
  const Place place = next().place;
  if (current().kind == Kind::kName) return make(place, Attribute{std::move(object), next().text});
  if (current().kind != Kind::kNumber) fail_unexpected("a name");
  return make(place, Item{std::move(object), make(place, Constant{next().number})});
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr object) {
  const Place place = next().place;
  const auto bound = [&]() -> ExpressionPtr {
    return current().is_operator(":") || current().is_operator("]") ? nullptr : expression();
  };
  ExpressionPtr start = bound();
  if (!skip_operator(":")) {
    if (!start) fail_unexpected("an expression");
    expect_operator("]");
    return make(place, Item{std::move(object), std::move(start)});
  }
  ExpressionPtr stop = bound();
  ExpressionPtr step = skip_operator(":") ? bound() : nullptr;
  expect_operator("]");
  return make(place, Slice{std::move(object), std::move(start), std::move(stop), std::move(step)});
}

ExpressionPtr ExpressionParser::call(ExpressionPtr callee) {
  const Place place = current().place;
  return make(place, Call{std::move(callee), arguments()});
}

CallArguments ExpressionParser::arguments() {
  expect_operator("(");
  CallArguments out;
  while (!current().is_operator(")")) {
    if (skip_operator("**")) {
      if (out.more_named) fail("more than one ** in a call");
      out.more_named = expression();
    } else if (skip_operator("*")) {
      if (out.more_positional || out.more_named) fail("a * that is not the only one, or behind **");
      out.more_positional = expression();
    } else if (current().kind == Kind::kName && ahead().is_operator("=")) {
      std::string name = next().text;
      next();
      out.named.emplace_back(std::move(name), expression());
    } else {
      if (!out.named.empty() || out.more_positional || out.more_named)
        fail("a positional argument behind others");
      out.positional.push_back(expression());
    }
    if (!skip_operator(",")) break;
  }
  expect_operator(")");
  return out;
}

ExpressionPtr ExpressionParser::filter(ExpressionPtr input) {
  const Place place = current().place;
  std::string name = current().text;
  expect(Kind::kName, "the name of a filter");
  CallArguments given;
  if (current().is_operator("(")) given = arguments();
  return make(place, Filtered{std::move(input), std::move(name), std::move(given)});
}

ExpressionPtr ExpressionParser::test(ExpressionPtr value) {
  next();
  const bool negated = skip_name("not");
  const Place place = current().place;
  std::string name = current().text;
  expect(Kind::kName, "the name of a test");
  CallArguments given;
  if (current().is_operator("(")) {
    given = arguments();
  } else if (begins_argument(current())) {
    if (current().is_name("is")) fail("tests cannot be chained");
    given.positional.push_back(postfix(primary()));
  }
  return make(place, Test{std::move(value), std::move(name), std::move(given), negated});
}

}  // namespace tessera::jinja
