// Parsing and rendering, and where an error comes from.
#include "tessera/chat/jinja/template.h"

#include "tessera/chat/jinja/evaluator.h"
#include "tessera/chat/jinja/parser.h"
#include "tessera/text/unicode.h"

namespace tessera::jinja {
namespace {

constexpr size_t kMaxSource = 1u << 20u;  // bytes; those of real models have up to 30,000

Error located(const std::string& name, Place place, const std::string& what) {
  return Error("{}: line {}, column {}: {}", name, place.line, place.column, what);
}

}  // namespace

Template::Template(std::string_view source, std::string name, Dialect dialect)
    : name_(std::move(name)), strict_(dialect.strict) {
  if (source.size() > kMaxSource) throw Error("{}: a template of more than {} bytes", name_, kMaxSource);
  if (!is_valid_utf8(source)) throw Error("{}: the template is not valid UTF-8", name_);
  try {
    // The parser drops one line end.
    block_ = parse(std::string(source) + (dialect.keep_last_line_end ? "\n" : ""));
  } catch (const SyntaxError& error) {
    throw located(name_, error.place, error.what());
  }
}

std::string Template::render(const Json& variables, std::time_t now, const Limits& limits) const {
  Runtime runtime(limits, now, strict_);
  Evaluator evaluator(runtime);
  try {
    const auto scope = std::make_shared<Scope>();
    for (const auto& [name, value] : variables.items()) scope->set(name, from_json(value));
    std::string out;
    evaluator.execute(block_, std::make_shared<Scope>(scope), out);
    return out;
  } catch (const Failure& failure) {
    throw located(name_, evaluator.place(), failure.what());
  }
}

}  // namespace tessera::jinja
