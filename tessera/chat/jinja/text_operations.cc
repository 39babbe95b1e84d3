// Replacing and formatting.
#include "tessera/chat/jinja/text_operations.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/arguments.h"
#include "tessera/chat/jinja/text.h"
#include "tessera/chat/jinja/written.h"
#include "tessera/text/unicode.h"

namespace tessera::jinja {
namespace {

constexpr int kWidest = 1000;  // of a formatted field

/// "%-10.3s" taken apart.
struct Conversion {
  std::string flags;
  int width = 0, precision = -1;
  char type = 's';
};

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, std::string_view format, const Value& arguments)
      : runtime_(runtime), rest_(format), arguments_(arguments) {}

  std::string run() {
    std::string out;
    while (!rest_.empty()) {
      const size_t percent = std::min(rest_.find('%'), rest_.size());
      out += rest_.substr(0, percent);
      rest_.remove_prefix(percent);
      if (!rest_.empty()) out += convert();
      runtime_.budget.spend_text(out.size() / 16);
    }
    const List* list = arguments_.list();
    if (list && list->is_tuple && next_ < list->items.size())
      throw Failure("not all arguments converted during string formatting");
    return out;
  }

 private:
  std::string convert() {
    rest_.remove_prefix(1);
    if (rest_.starts_with('%')) {
      rest_.remove_prefix(1);
      return "%";
    }
    const std::optional<Value> named = named_argument();
    const Conversion conversion = parse();
    return write(conversion, named ? *named : next_argument());
  }

  std::optional<Value> named_argument() {
    if (!rest_.starts_with('(')) return std::nullopt;
    const size_t close = rest_.find(')');
    const Dict* dict = arguments_.dict();
    if (!dict || close == std::string_view::npos) throw Failure("format requires a mapping");
    const std::string_view name = rest_.substr(1, close - 1);
    rest_.remove_prefix(close + 1);
    const Value* found = dict->find_text(name);
    if (!found) throw Failure("the format has no value for '{}'", name);
    return *found;
  }

  Value next_argument() {
    const List* list = arguments_.list();
    const bool several = list && list->is_tuple;
    if (next_ >= (several ? list->items.size() : 1)) throw Failure("not enough arguments for format string");
    return several ? list->items[next_++] : (++next_, arguments_);
  }

  Conversion parse() {
    Conversion conversion;
    while (!rest_.empty() && std::string_view("-+ 0#").find(rest_[0]) != std::string_view::npos) {
      if (conversion.flags.find(rest_[0]) == std::string::npos) conversion.flags += rest_[0];
      rest_.remove_prefix(1);
    }
    conversion.width = number().value_or(0);
    if (rest_.starts_with('.')) {
      rest_.remove_prefix(1);
      conversion.precision = number().value_or(0);
    }
    if (rest_.empty()) throw Failure("incomplete format");
    conversion.type = rest_[0];
    rest_.remove_prefix(1);
    return conversion;
  }

  std::optional<int> number() {
    int value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error == std::errc::invalid_argument) return std::nullopt;
    if (error != std::errc() || value < 0 || value > kWidest)
      throw Failure("a format wider than {}", kWidest);
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return value;
  }

  std::string write(const Conversion& c, const Value& value) {
    switch (c.type) {
      case 's':
        return padded(c, printed(runtime_, value));
      case 'r':
        return padded(c, value.text() ? in_quotes(*value.text()) : printed(runtime_, value));
      case 'd':
      case 'i':
      case 'x':
      case 'X':
      case 'o':
        return write_integer(c, value);
      case 'f':
      case 'e':
      case 'g':
        return write_float(c, value);
      default:
        throw Failure("unsupported format character '{}'", c.type);
    }
  }

  static std::string padded(const Conversion& c, const std::string& text) {
    const auto all = characters(text);
    const size_t kept = c.precision < 0 ? all.size() : std::min(all.size(), static_cast<size_t>(c.precision));
    std::string out;
    for (size_t i = 0; i < kept; ++i) out += all[i];
    const size_t width = static_cast<size_t>(c.width);
    const std::string blanks(width > kept ? width - kept : 0, ' ');
    return c.flags.find('-') != std::string::npos ? out + blanks : blanks + out;
  }

  static std::string write_integer(const Conversion& c, const Value& value) {
    const auto number = number_of(value);
    if (!number) throw Failure("%{} format: a real number is required, not {}", c.type, value.type_name());
    const long long integer = integer_of(value) ? *integer_of(value) : checked_integer(*number);
    const std::string format = fmt::format("%{}*.*ll{}", c.flags, c.type == 'i' ? 'd' : c.type);
    return c_format(format, c, integer);
  }

  static std::string write_float(const Conversion& c, const Value& value) {
    const auto number = number_of(value);
    if (!number) throw Failure("must be real number, not {}", value.type_name());
    return c_format(fmt::format("%{}*.*{}", c.flags, c.type), c, *number);
  }

  static long long checked_integer(double number) {
    if (!(number > -9.2e18 && number < 9.2e18)) throw Failure("a number does not fit in 64 bits");
    return static_cast<long long>(number);
  }

  /// `format` is made of parsed flags and a known type, for a width, a precision and one number.
  template <class Number>
  static std::string c_format(const std::string& format, const Conversion& c, Number number) {
    char out[2 * kWidest + 400];  // a double has up to 309 digits before its point
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const int size = std::snprintf(out, sizeof out, format.c_str(), c.width, c.precision, number);
#pragma GCC diagnostic pop
    return std::string(out, static_cast<size_t>(size));
  }

  Runtime& runtime_;
  std::string_view rest_;
  const Value& arguments_;
  size_t next_ = 0;
};

}  // namespace

std::string replace(Runtime& runtime, const std::string& text, const std::string& old,
                    const std::string& replacement, int64_t most) {
  const size_t limit = most < 0 ? SIZE_MAX : static_cast<size_t>(most);
  runtime.budget.spend_text(text.size());
  std::string out;
  std::string_view rest = text;
  const auto put = [&](std::string_view kept) {
    runtime.budget.spend(1 + static_cast<int64_t>(replacement.size() / 256));
    out += kept;
    out += replacement;
  };
  size_t done = 0;
  if (old.empty()) {  // between all characters, and at both ends
    if (limit > 0) put("");
    for (done = 1; done < limit && !rest.empty(); ++done) {
      const size_t size = decode_code_point(rest).length;
      put(rest.substr(0, size));
      rest.remove_prefix(size);
    }
  } else {
    for (size_t at = 0; done < limit && (at = rest.find(old)) != std::string_view::npos; ++done) {
      put(rest.substr(0, at));
      rest.remove_prefix(at + old.size());
    }
  }
  out += rest;
  return out;
}

std::string format_percent(Runtime& runtime, const std::string& format, const Value& arguments) {
  return PercentFormatter(runtime, format, arguments).run();
}

}  // namespace tessera::jinja
