// Statements.
#include <map>

#include "tessera/chat/jinja/parser.h"

namespace tessera::jinja {
namespace {

using Kind = Token::Kind;
using Ends = std::initializer_list<std::string_view>;

class StatementParser {
 public:
  explicit StatementParser(const std::vector<Token>& tokens) : reader_(tokens) {}

  Block run() { return block({}); }

 private:
  using Parser = void (StatementParser::*)(Place, Block&);

  /// Statements up to a tag that is one of `ends`, of which "{%" and the name are then read, or, where there
  /// are no ends, up to the end of the template. `end` becomes the name.
  Block block(Ends ends, std::string* end = nullptr) {
    const ExpressionParser::Nested nested(reader_);
    Block statements;
    for (;;) {
      const Token& token = reader_.current();
      if (token.kind == Kind::kEnd) {
        if (ends.size() > 0)
          reader_.fail(fmt::format("the template ends where '{}' is missing", *(ends.end() - 1)));
        return statements;
      }
      reader_.next();
      if (token.kind == Kind::kText) {
        statements.push_back({token.place, Text{token.text}});
      } else if (token.kind == Kind::kPrint) {
        statements.push_back({token.place, Print{reader_.tuple(/*with_conditional=*/true)}});
        reader_.expect(Kind::kPrintEnd, "'}}'");
      } else {  // "{%": nothing else stands outside of tags
        const Token& name = reader_.current();
        reader_.expect(Kind::kName, "the name of a statement");
        for (std::string_view wanted : ends) {
          if (name.text != wanted) continue;
          if (end) *end = name.text;
          return statements;
        }
        statement(name, statements);
        end_tag();
      }
    }
  }

  void end_tag() { reader_.expect(Kind::kBlockEnd, "'%}'"); }

  /// The block between the rest of this tag and {% end %}.
  Block body(std::string_view end) {
    end_tag();
    return block({end});
  }

  void statement(const Token& name, Block& out) {
    static const std::map<std::string_view, Parser> parsers = {
        {"if", &StatementParser::if_statement},
        {"for", &StatementParser::for_statement},
        {"set", &StatementParser::set},
        {"macro", &StatementParser::macro},
        {"call", &StatementParser::call},
        {"filter", &StatementParser::filter},
        {"with", &StatementParser::with},
        {"generation", &StatementParser::generation},
        {"break", &StatementParser::break_statement},
        {"continue", &StatementParser::continue_statement}};
    const auto parser = parsers.find(name.text);
    if (parser == parsers.end())
      throw SyntaxError(name.place, fmt::format("the statement '{}' is unknown or not supported", name.text));
    (this->*parser->second)(name.place, out);
  }

  void if_statement(Place place, Block& out) {
    If node;
    std::string end = "elif";
    while (end == "elif") {
      ExpressionPtr condition = reader_.tuple(/*with_conditional=*/false);
      end_tag();
      Block then = block({"elif", "else", "endif"}, &end);
      node.branches.emplace_back(std::move(condition), std::move(then));
    }
    if (end == "else") node.otherwise = body("endif");
    out.push_back({place, std::move(node)});
  }

  void for_statement(Place place, Block& out) {
    For node;
    node.target = target(/*with_attributes=*/false);
    reader_.expect_name("in");
    node.iterable = reader_.tuple(/*with_conditional=*/false, {"recursive"});
    if (reader_.skip_name("if")) node.condition = reader_.expression();
    node.recursive = reader_.skip_name("recursive");
    std::string end;
    end_tag();
    ++loops_;
    node.body = block({"else", "endfor"}, &end);
    --loops_;
    if (end == "else") node.otherwise = body("endfor");
    out.push_back({place, std::move(node)});
  }

  /// name, name.attribute, or several of them with commas between or in parentheses.
  Target target(bool with_attributes) {
    Target first = single_target(with_attributes);
    if (!reader_.current().is_operator(",")) return first;
    Target several;
    several.parts.push_back(std::move(first));
    while (reader_.skip_operator(",")) {
      if (reader_.current().kind != Kind::kName && !reader_.current().is_operator("(")) break;
      if (reader_.current().is_name("in")) break;
      several.parts.push_back(single_target(with_attributes));
    }
    return several;
  }

  Target single_target(bool with_attributes) {
    const ExpressionParser::Nested nested(reader_);
    if (reader_.skip_operator("(")) {
      Target inside = target(with_attributes);
      reader_.expect_operator(")");
      return inside;
    }
    Target single{reader_.expect_variable(), ""};
    if (with_attributes && reader_.skip_operator(".")) {
      single.attribute = reader_.current().text;
      reader_.expect(Kind::kName, "the name of an attribute");
    }
    return single;
  }

  void set(Place place, Block& out) {
    Target to = target(/*with_attributes=*/true);
    if (reader_.skip_operator("=")) {
      out.push_back({place, Set{std::move(to), reader_.tuple(/*with_conditional=*/true)}});
      return;
    }
    SetBlock node{std::move(to), nullptr, {}};
    while (reader_.skip_operator("|")) node.filter = reader_.filter(std::move(node.filter));
    node.body = body("endset");
    out.push_back({place, std::move(node)});
  }

  std::vector<Parameter> parameters() {
    std::vector<Parameter> list;
    reader_.expect_operator("(");
    while (!reader_.current().is_operator(")")) {
      Parameter parameter{reader_.expect_variable(), nullptr};
      if (reader_.skip_operator("=")) {
        parameter.otherwise = reader_.expression();
      } else if (!list.empty() && list.back().otherwise) {
        reader_.fail("a parameter without default behind one that has it");
      }
      list.push_back(std::move(parameter));
      if (!reader_.skip_operator(",")) break;
    }
    reader_.expect_operator(")");
    return list;
  }

  /// The body of something that is called: break does not reach the loops around it.
  Block called_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Block statements = body(end);
    loops_ = loops;
    return statements;
  }

  void macro_body(MacroDefinition& node, std::string_view end) {
    const size_t first = reader_.position();
    node.body = called_body(end);
    node.takes_varargs = reader_.has_read("varargs", first);
    node.takes_kwargs = reader_.has_read("kwargs", first);
    node.takes_caller = reader_.has_read("caller", first);
  }

  void macro(Place place, Block& out) {
    MacroDefinition node;
    node.name = reader_.expect_variable();
    node.parameters = parameters();
    macro_body(node, "endmacro");
    out.push_back({place, std::move(node)});
  }

  void call(Place place, Block& out) {
    CallBlock node;
    node.caller.name = "caller";
    if (reader_.current().is_operator("(")) node.caller.parameters = parameters();
    node.call = reader_.expression();
    if (!std::holds_alternative<Call>(node.call->node)) throw SyntaxError(place, "a call block needs a call");
    macro_body(node.caller, "endcall");
    out.push_back({place, std::move(node)});
  }

  void filter(Place place, Block& out) {
    FilterBlock node{reader_.filter(nullptr), {}};
    while (reader_.skip_operator("|")) node.filter = reader_.filter(std::move(node.filter));
    node.body = body("endfilter");
    out.push_back({place, std::move(node)});
  }

  void with(Place place, Block& out) {
    Scoped node;
    while (reader_.current().kind != Kind::kBlockEnd) {
      Target to = single_target(/*with_attributes=*/false);
      reader_.expect_operator("=");
      node.variables.emplace_back(std::move(to), reader_.expression());
      if (!reader_.skip_operator(",")) break;
    }
    node.body = body("endwith");
    out.push_back({place, std::move(node)});
  }

  /// Marks what the model wrote, for training; renders as its content.
  void generation(Place place, Block& out) {
    out.push_back({place, Scoped{{}, called_body("endgeneration")}});
  }

  void break_statement(Place place, Block& out) {
    require_loop(place, "break");
    out.push_back({place, Break{}});
  }
  void continue_statement(Place place, Block& out) {
    require_loop(place, "continue");
    out.push_back({place, Continue{}});
  }
  void require_loop(Place place, std::string_view name) const {
    if (loops_ == 0) throw SyntaxError(place, fmt::format("'{}' outside of a loop", name));
  }

  ExpressionParser reader_;
  int loops_ = 0;  ///< around the current statement
};

}  // namespace

Block parse(std::string_view source) {
  const std::vector<Token> tokens = tokenize(source);
  return StatementParser(tokens).run();
}

}  // namespace tessera::jinja
