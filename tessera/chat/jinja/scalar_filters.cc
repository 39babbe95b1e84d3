// Filters that make text or numbers of a value.
#include <charconv>
#include <cmath>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/filters.h"
#include "tessera/chat/jinja/operators.h"
#include "tessera/chat/jinja/text.h"
#include "tessera/chat/jinja/text_operations.h"
#include "tessera/chat/jinja/written.h"
#include "tessera/text/regex.h"
#include "tessera/text/unicode.h"

namespace tessera::jinja {
namespace {

/// The input as text, spent.
std::string input_text(Runtime& runtime, const Value& input) {
  std::string text = printed(runtime, input);
  runtime.budget.spend_text(text.size());
  return text;
}

template <std::string (*change)(std::string_view)>
Value changed(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("the filter", {});
  return change(input_text(runtime, input));
}

/// Jinja's title case: words begin behind white space, hyphens and opening brackets.
std::string title_words(std::string_view text) {
  std::string out;
  bool at_start = true;
  for_each_code_point(text, [&](char32_t c, size_t position, size_t size) {
    const std::string_view character = text.substr(position, size);
    out += at_start ? upper(character) : lower(character);
    at_start = is_space(c) || std::u32string_view(U"-({[<").find(c) != std::u32string_view::npos;
  });
  return out;
}

Value trim(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("trim", {"chars"});
  const bool given = bound[0] && !bound[0]->is_none();
  return Value(
      strip(input_text(runtime, input), Side::kBoth, given ? &expect_text(*bound[0], "chars") : nullptr));
}

Value string(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("string", {});
  return input_text(runtime, input);
}

Value escape(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("escape", {});
  std::string out;
  for (char c : input_text(runtime, input)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

Value replace_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("replace", {"old", "new", "count"});
  if (!bound[0] || !bound[1]) throw Failure("replace takes at least 2 arguments");
  const int64_t most = bound[2] && !bound[2]->is_none() ? expect_integer(*bound[2], "count") : -1;
  return replace(runtime, input_text(runtime, input), printed(runtime, *bound[0]),
                 printed(runtime, *bound[1]), most);
}

/// Not of Jinja2, but of lm-evaluation-harness, whose tasks are written in this language. Nothing in the
/// replacement has a meaning of its own.
Value regex_replace(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("regex_replace", {"pattern", "repl"});
  if (!bound[0] || !bound[1]) throw Failure("regex_replace takes 2 arguments");
  const std::string text = input_text(runtime, input);
  const std::string& replacement = expect_text(*bound[1], "repl");
  if (replacement.find('\\') != std::string::npos)
    throw Failure("regex_replace: '\\' in the replacement is not supported");
  std::string out;
  size_t at = 0;
  try {
    const Regex regex(expect_text(*bound[0], "pattern"), Regex::Syntax::kOniguruma, "regex_replace");
    for (const Range& match : regex.find_all(text)) {
      runtime.budget.spend_text(replacement.size());
      out.append(text, at, match.begin - at).append(replacement);
      at = match.end;
    }
  } catch (const Failure&) {
    throw;
  } catch (const Error& error) {
    throw Failure("{}", error.what());
  }
  return out.append(text, at);
}

Value format(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (arguments.named.empty())
    return format_percent(runtime, input_text(runtime, input), List{arguments.positional, /*is_tuple=*/true});
  if (!arguments.positional.empty())
    throw Failure("can't handle positional and keyword arguments at the same time");
  Dict named;
  for (const auto& [name, value] : arguments.named) named.set(Value(name), value);
  return format_percent(runtime, input_text(runtime, input), named);
}

std::string indentation(const std::optional<Value>& width) {
  if (width && width->text()) return *width->text();
  const int64_t blanks = width ? expect_integer(*width, "width") : 4;
  if (blanks > 1000) throw Failure("an indentation wider than 1000");
  return std::string(static_cast<size_t>(std::max<int64_t>(blanks, 0)), ' ');
}

Value indent(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("indent", {"width", "first", "blank"});
  const std::string indention = indentation(bound[0]);
  const bool first = bound[1] && bound[1]->truth(), blank = bound[2] && bound[2]->truth();
  const std::string text = input_text(runtime, input) + "\n";
  std::string out;
  const auto lines = split_lines(text, false);
  for (size_t i = 0; i < lines.size(); ++i) {
    runtime.budget.spend_text(indention.size() + lines[i].size());
    if (i > 0) out += '\n';
    if (i == 0 ? first : blank || !lines[i].empty()) out += indention;
    out += lines[i];
  }
  return out;
}

Value center(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("center", {"width"});
  const std::string text = input_text(runtime, input);
  const int64_t width = bound[0] ? expect_integer(*bound[0], "width") : 80;
  const int64_t blanks = width - static_cast<int64_t>(length(text));
  if (blanks <= 0) return text;
  if (width > 100'000) throw Failure("a width of more than 100000");
  const int64_t left = blanks / 2 + (blanks & width & 1);  // as Python rounds
  return std::string(static_cast<size_t>(left), ' ') + text +
         std::string(static_cast<size_t>(blanks - left), ' ');
}

Value wordcount(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("wordcount", {});
  return static_cast<int64_t>(split_words(input_text(runtime, input), SIZE_MAX).size());
}

// ---- numbers

template <class Number>
std::optional<Number> parse_number(std::string_view text, auto... how) {
  text = strip(text, Side::kBoth);
  if (text.starts_with('+')) text.remove_prefix(1);
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, how...);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Value to_int(Runtime&, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("int", {"default", "base"});
  const int64_t base = bound[1] ? expect_integer(*bound[1], "base") : 10;
  if (base < 2 || base > 36) throw Failure("int() base must be >= 2 and <= 36");
  require_defined(input);
  if (const auto integer = integer_of(input)) return *integer;
  std::optional<double> number = number_of(input);
  if (const std::string* text = input.text()) {
    if (const auto integer = parse_number<int64_t>(*text, static_cast<int>(base))) return *integer;
    number = parse_number<double>(*text);
  }
  if (number && *number > -9.2e18 && *number < 9.2e18) return static_cast<int64_t>(*number);
  return bound[0].value_or(int64_t{0});
}

Value to_float(Runtime&, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("float", {"default"});
  require_defined(input);
  std::optional<double> number = number_of(input);
  if (const std::string* text = input.text()) number = parse_number<double>(*text);
  return number ? Value(*number) : bound[0].value_or(0.0);
}

Value absolute(Runtime&, const Value& input, const Arguments& arguments) {
  arguments.bind("abs", {});
  const auto number = number_of(input);
  if (!number) throw Failure("bad operand type for abs(): '{}'", input.type_name());
  return *number < 0 ? negate(input) : input;
}

/// Python's round(): halves to even, judged on the decimal digits of the number.
double round_half_even(double number, int64_t precision) {
  if (precision >= 0) {
    double out = 0;
    const std::string digits = fmt::format("{:.{}f}", number, precision);
    std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return out;
  }
  const double unit = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(number / unit) * unit;
}

Value round(Runtime&, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("round", {"precision", "method"});
  const int64_t precision = bound[0] ? expect_integer(*bound[0], "precision") : 0;
  const std::string method = bound[1] ? expect_text(*bound[1], "method") : "common";
  const auto number = number_of(input);
  if (!number) throw Failure("type {} cannot be rounded", input.type_name());
  if (precision < -300 || precision > 300) throw Failure("a precision beyond 300 digits");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return std::ceil(*number * scale) / scale;
  if (method == "floor") return std::floor(*number * scale) / scale;
  if (method != "common") throw Failure("method must be common, ceil or floor");
  if (integer_of(input) && precision >= 0) return *integer_of(input);
  return round_half_even(*number, precision);
}

// ---- anything

Value default_value(Runtime&, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("default", {"default_value", "boolean"});
  const bool falsy_too = bound[1] && bound[1]->truth();
  return input.is_undefined() || (falsy_too && !input.truth()) ? bound[0].value_or(Value("")) : input;
}

Value tojson(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto bound = arguments.bind("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style{.sort_keys = bound[3] && bound[3]->truth(), .ensure_ascii = bound[0] && bound[0]->truth()};
  if (bound[1] && !bound[1]->is_none()) {
    style.indent = indentation(bound[1]);
    style.item_separator = ",";
  }
  if (bound[2] && !bound[2]->is_none()) {
    const std::vector<Value> pair = elements(runtime, *bound[2]);
    if (pair.size() != 2) throw Failure("separators must be a pair of str");
    style.item_separator = expect_text(pair[0], "a separator");
    style.key_separator = expect_text(pair[1], "a separator");
  }
  return to_json(runtime, input, style);
}

/// Not of Jinja2, but templates of some models use it where their own software provides it.
Value from_json_text(Runtime& runtime, const Value& input, const Arguments& arguments) {
  arguments.bind("from_json", {});
  const std::string& text = expect_text(input, "the input of from_json");
  runtime.budget.spend(static_cast<int64_t>(text.size()));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw Failure("from_json: the text is not JSON");
  return from_json(json);
}

/// Nothing is escaped here, so nothing needs to be marked as safe.
Value safe(Runtime&, const Value& input, const Arguments& arguments) {
  arguments.bind("safe", {});
  return input;
}

constexpr Filter kFilters[] = {{"abs", absolute},
                               {"capitalize", changed<capitalize>},
                               {"center", center},
                               {"d", default_value},
                               {"default", default_value},
                               {"e", escape},
                               {"escape", escape},
                               {"float", to_float},
                               {"format", format},
                               {"from_json", from_json_text},
                               {"indent", indent},
                               {"int", to_int},
                               {"lower", changed<lower>},
                               {"regex_replace", regex_replace},
                               {"replace", replace_filter},
                               {"round", round},
                               {"safe", safe},
                               {"string", string},
                               {"title", changed<title_words>},
                               {"tojson", tojson},
                               {"trim", trim},
                               {"upper", changed<upper>},
                               {"wordcount", wordcount}};

}  // namespace

std::span<const Filter> scalar_filters() {
  return kFilters;
}

}  // namespace tessera::jinja
