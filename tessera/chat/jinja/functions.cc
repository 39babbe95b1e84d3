// Global functions.
#include "tessera/chat/jinja/functions.h"

#include <algorithm>

#include "tessera/chat/jinja/access.h"
#include "tessera/chat/jinja/written.h"

namespace tessera::jinja {
namespace {

constexpr int64_t kLongestRange = 100'000;  // as in Jinja's sandbox

Value range(Runtime& runtime, const Arguments& arguments) {
  const auto bound = arguments.bind("range", {"start", "stop", "step"});
  if (!bound[0]) throw Failure("range expected at least 1 argument, got 0");
  int64_t start = 0, stop = expect_integer(*bound[0], "the end of range()"), step = 1;
  if (bound[1]) {
    start = stop;
    stop = expect_integer(*bound[1], "the end of range()");
  }
  if (bound[2]) step = expect_integer(*bound[2], "the step of range()");
  if (step == 0) throw Failure("range() arg 3 must not be zero");
  List numbers;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (std::ssize(numbers.items) == kLongestRange)
      throw Failure("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", kLongestRange);
    numbers.items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  runtime.budget.spend(std::ssize(numbers.items));
  return numbers;
}

/// What dict() and namespace() take: a mapping, or none, and keywords.
template <class Set>
void take_members(const Arguments& arguments, std::string_view callee, const Set& set) {
  if (arguments.positional.size() > 1) throw Failure("{}() takes at most 1 positional argument", callee);
  if (!arguments.positional.empty()) {
    const Dict* dict = arguments.positional[0].dict();
    if (!dict) throw Failure("{}() takes a mapping, not {}", callee, arguments.positional[0].type_name());
    for (const auto& [key, value] : dict->entries()) set(key, value);
  }
  for (const auto& [name, value] : arguments.named) set(Value(name), value);
}

Value make_dict(Runtime&, const Arguments& arguments) {
  Dict dict;
  take_members(arguments, "dict", [&](const Value& key, const Value& value) { dict.set(key, value); });
  return dict;
}

Value make_namespace(Runtime& runtime, const Arguments& arguments) {
  auto* made = runtime.make<Namespace>();
  take_members(arguments, "namespace", [&](const Value& key, const Value& value) {
    made->set(expect_text(key, "the name of an attribute"), value);
  });
  return made;
}

Value raise_exception(Runtime& runtime, const Arguments& arguments) {
  throw Raised("{}", printed(runtime, arguments.only("raise_exception", "message")));
}

Value strftime_now(Runtime& runtime, const Arguments& arguments) {
  const Value wanted = arguments.only("strftime_now", "format");
  const std::string& format = expect_text(wanted, "the format of strftime_now()");
  std::tm local{};
  localtime_r(&runtime.now, &local);
  char out[1024];
  const size_t size = std::strftime(out, sizeof out, format.c_str(), &local);
  if (size == 0 && !format.empty()) throw Failure("the format of strftime_now() gives too long a text");
  return std::string(out, size);
}

/// Gives its separator from the second call on.
class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const override { return "jinja2.utils.Joiner"; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, const Arguments&) override {
    return std::exchange(used_, true) ? separator_ : Value("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value make_joiner(Runtime& runtime, const Arguments& arguments) {
  return runtime.make<Joiner>(arguments.bind("joiner", {"sep"})[0].value_or(Value(", ")));
}

}  // namespace

Value Namespace::attribute(Runtime&, std::string_view name) {
  const Value* found = members_.find_text(name);
  return found ? *found : Value();
}

void Namespace::set(std::string_view name, Value value) {
  members_.set(Value(name), std::move(value));
}

Value global_function(std::string_view name) {
  static Function functions[] = {{"range", range},
                                 {"dict", make_dict},
                                 {"namespace", make_namespace},
                                 {"raise_exception", raise_exception},
                                 {"strftime_now", strftime_now},
                                 {"joiner", make_joiner}};
  const auto found = std::ranges::find(functions, name, &Function::name);
  return found == std::end(functions) ? Value() : Value(&*found);
}

}  // namespace tessera::jinja
