// Templates and messages that mean harm: whatever comes, it ends soon, as text or as an Error.
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>

#include "tessera/base/atomic_output.h"
#include "tessera/chat/jinja/template.h"

namespace tessera::jinja {
namespace {

std::string render(const std::string& source, const Json& variables = Json::object(),
                   const Limits& limits = {}) {
  return Template(source, "test").render(variables, 0, limits);
}

void expect_error(const std::string& source, const std::string& words,
                  const Json& variables = Json::object()) {
  try {
    const std::string text = render(source, variables);
    ADD_FAILURE() << source.substr(0, 200) << "\ngave " << text.size() << " bytes";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
}

std::string repeated(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

std::string tag(const std::string& inside) {
  return fmt::format("{{{{ {} }}}}", inside);
}

TEST(Hostile, NamesLineAndColumn) {
  expect_error("one\n  {{ 1 + }}", "test: line 2, column 10: expected an expression");
  expect_error("{% if true %}\n{{ missing.x }}{% endif %}",
               "test: line 2, column 11: 'missing' is undefined");
  expect_error("{{ 'a' | nope }}", "No filter named 'nope'");
  expect_error("{% import 'x' as y %}",
               "line 1, column 4: the statement 'import' is unknown or not supported");
  expect_error("{{ \xff }}", "UTF-8");
}

TEST(Hostile, LoopsEnd) {
  const std::string forever =
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  expect_error(forever, "does not end within 1000000 steps");
  expect_error("{{ 'x' * 1000000000000 }}", "steps");
  expect_error("{{ ([1] * 100000) * 100000 }}", "steps");
  expect_error(
      "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "steps");
  expect_error(
      "{% set ns = namespace(s=[0]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "steps");
  // A list that holds itself twice, 60 times over: small to keep, endless to print, compare or write.
  const std::string shared =
      "{% set ns = namespace(s=[0], t=[1]) %}{% for i in range(60) %}"
      "{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}";
  for (const char* use :
       {"{{ ns.s }}", "{{ ns.s == ns.t }}", "{{ ns.s | tojson }}", "{{ ns.s in [ns.t] }}",
        "{{ [ns.s, ns.t] | sort }}", "{{ [ns.s, ns.t] | unique | list }}", "{{ ns.s < ns.t }}"})
    expect_error(shared + use, "steps");
  expect_error("{{ 'a' | replace('', 'x' * 900000) | replace('', 'x' * 90000) }}", "steps");
  expect_error("{{ ('a\\n' * 100000) | indent(1000) }}", "longer than");
}

TEST(Hostile, TextEnds) {
  const std::string much = "{% for i in range(9000) %}" + repeated("x", 1000) + "{% endfor %}";
  expect_error(much, "longer than 4194304 bytes");
  expect_error("{% set s %}" + much + "{% endset %}", "longer than 4194304 bytes");
  expect_error("{{ '%99999d' % 1 }}", "wider");
  expect_error("{{ 'x' | center(2000000000) }}", "width");
  expect_error("{{ strftime_now('%c' * 900) }}", "too long");
}

/// Runs in a thread with the stack that an I/O thread has.
template <class Function>
void in_thread(const Function& function) {
  std::thread thread(function);
  thread.join();
}

TEST(Hostile, NestingEnds) {
  in_thread([] {
    expect_error(repeated("{% if 1 %}", 50'000), "nested more than");
    expect_error(tag(repeated("(", 100'000) + "1" + repeated(")", 100'000)), "nested more than");
    expect_error(tag(repeated("[", 100'000) + "1" + repeated("]", 100'000)), "nested more than");
    expect_error(tag(repeated("-", 100'000) + "1"), "nested more than");
    expect_error(tag(repeated("not ", 100'000) + "1"), "nested more than");
    expect_error(tag(repeated("1", 1) + repeated(" + 1", 100'000)), "too long");
    expect_error(tag(repeated("a", 1) + repeated(".b", 100'000)), "too long");
    expect_error(tag(repeated("a", 1) + repeated("|d", 100'000)), "too long");
    expect_error(tag(repeated("a", 1) + repeated(" if b", 100'000)), "too long");
    expect_error(tag(repeated("a", 1) + repeated(" if b else a", 50'000)), "nested more than");
    expect_error("{% set " + repeated("(", 100'000) + repeated(")", 100'000) + " = 1 %}", "nested more than");
    EXPECT_EQ(render(tag(repeated("1", 1) + repeated(" + 1", 900))), "901");
    EXPECT_EQ(render(tag(repeated("'a'", 1) + repeated(" ~ 'a'", 2000))).size(), 2001u);
    expect_error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested more than 1000 deep");
    expect_error(
        "{% macro m(x) %}{% for y in x %}{% set z %}{{ [m(x)] | join }}{% endset %}{% endfor %}{% endmacro "
        "%}{{ m([1]) }}",
        "nested more than 1000 deep");
    expect_error("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "nested more than 1000 deep");
    expect_error("{% set ns = namespace(s=[]) %}{% for i in range(900) %}{% set ns.s = [ns.s] %}{% endfor %}",
                 "nested more than 100 deep");
    Json deep = 1;
    for (int i = 0; i < 100'000; ++i) deep = Json::array({std::move(deep)});
    expect_error("{{ x }}", "nested more than 100 deep", {{"x", std::move(deep)}});
  });
}

TEST(Hostile, CyclesOfNamespacesEnd) {
  EXPECT_NE(
      render("{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = [b] %}{{ a.b[0].a.b[0] }}"),
      "");
  EXPECT_EQ(render("{% set ns = namespace() %}{% macro m() %}{% set ns.me = m %}ok{% endmacro %}{{ m() }}{{ "
                   "ns.me() }}"),
            "okok");
  EXPECT_EQ(render("{% set ns = namespace(l=[]) %}{% for i in range(3000) %}{% for x in [ns.l] %}{% set ns.l "
                   "= loop %}{% endfor %}{% endfor %}{{ ns.l.index }}"),
            "1");
  EXPECT_EQ(render("{% set ns = namespace() %}{% for x in [1, 2] %}{% set ns.l = loop %}{% endfor %}{{ "
                   "ns.l.index0 }}"),
            "1");
}

TEST(Hostile, WideObjectsAreFound) {
  Json wide = Json::object();
  for (int i = 0; i < 3000; ++i) wide[fmt::format("k{}", i)] = i;
  EXPECT_EQ(render("{% for k in w %}{% if w[k] != loop.index0 %}wrong{% endif %}{% endfor %}", {{"w", wide}}),
            "");
}

TEST(Hostile, IntegersStayInBounds) {
  for (const char* source :
       {"{{ 9223372036854775807 + 1 }}", "{{ -9223372036854775807 - 2 }}", "{{ 3 ** 99 }}",
        "{{ 99999999999 * 99999999999 }}", "{{ (-9223372036854775807 - 1) // -1 }}",
        "{{ (-9223372036854775807 - 1) % -1 }}", "{{ -(-9223372036854775807 - 1) }}",
        "{{ 99999999999999999999 }}"})
    expect_error(source, "64 bits");
  EXPECT_EQ(render("{{ 'abc'[9223372036854775807:] }}{{ 'abc'[-9223372036854775807::9223372036854775807] }}"),
            "a");
  EXPECT_EQ(
      render(
          "{{ 'abc'[::-9223372036854775807] }}{{ range(9223372036854775806, 9223372036854775807) | list }}"),
      "c[9223372036854775806]");
}

/// What templates are made of, to be strung together at random.
constexpr const char* kPieces[] = {"{{",
                                   "}}",
                                   "{%",
                                   "%}",
                                   "{#",
                                   "#}",
                                   "-",
                                   "+",
                                   "{%-",
                                   "-%}",
                                   " ",
                                   "\n",
                                   "for ",
                                   " in ",
                                   "if ",
                                   "else",
                                   "elif ",
                                   "endif",
                                   "endfor",
                                   "set ",
                                   "endset",
                                   "macro ",
                                   "endmacro",
                                   "call ",
                                   "endcall",
                                   "filter ",
                                   "endfilter",
                                   "raw",
                                   "endraw",
                                   "x",
                                   "y",
                                   "messages",
                                   "m(",
                                   "loop",
                                   ".",
                                   ",",
                                   "(",
                                   ")",
                                   "[",
                                   "]",
                                   "{",
                                   "}",
                                   ":",
                                   "|",
                                   "=",
                                   "==",
                                   "<",
                                   "~",
                                   "*",
                                   "**",
                                   "/",
                                   "//",
                                   "%",
                                   " and ",
                                   " or ",
                                   " not ",
                                   " is ",
                                   "defined",
                                   "string",
                                   "none",
                                   "true",
                                   "0",
                                   "1",
                                   "-1",
                                   "9223372036854775807",
                                   "1.5",
                                   "'a'",
                                   "\"b\"",
                                   "'",
                                   "\\",
                                   "\\x4",
                                   "namespace(",
                                   "range(",
                                   "tojson",
                                   "length",
                                   "join(",
                                   "map(",
                                   "selectattr(",
                                   "'role'",
                                   "replace(",
                                   "split(",
                                   "items()",
                                   "trim",
                                   "indent(",
                                   "sort",
                                   "first",
                                   "last",
                                   "break",
                                   "continue",
                                   "recursive",
                                   "caller()",
                                   "généré",
                                   "\xf0\x9f\x98\x80",
                                   "raise_exception(",
                                   "generation",
                                   "endgeneration",
                                   "with ",
                                   "endwith"};

const Json kMessages = {
    {"messages", {{{"role", "user"}, {"content", "a 世"}}, {{"role", "assistant"}, {"content", nullptr}}}},
    {"x", {1, 2.5, "s", {{"k", "v"}}}},
    {"y", "text"}};

void expect_end(const std::string& source) {
  SCOPED_TRACE(source);
  try {
    render(source, kMessages, {.steps = 20'000});
  } catch (const Error& error) {
    EXPECT_FALSE(std::string(error.what()).empty());
  }
}

TEST(Hostile, RandomTemplatesEnd) {
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string source;
    for (size_t pieces = random() % 30; pieces > 0; --pieces)
      source += kPieces[random() % std::size(kPieces)];
    expect_end(source);
  }
}

TEST(Hostile, RandomExpressionsEnd) {
  std::mt19937 random(2);
  for (int i = 0; i < 20'000; ++i) {
    std::string source = "{% set m = messages %}{{ ";
    for (size_t pieces = random() % 12 + 1; pieces > 0; --pieces) {
      source += kPieces[29 + random() % (std::size(kPieces) - 29)];
      if (random() % 3 == 0) source += ' ';
    }
    expect_end(source + " }}");
  }
}

TEST(Hostile, DamagedTemplatesEnd) {
  const Json golden =
      Json::parse(read_file(std::filesystem::path(TESSERA_SOURCE_DIR) / "tests" / "chat" / "golden.json"));
  std::mt19937 random(3);
  for (const auto& [name, value] : golden["templates"].items()) {
    const std::string whole = value.get<std::string>();
    for (int i = 0; i < 300; ++i) {
      std::string source = whole;
      for (size_t changes = random() % 3 + 1; changes > 0; --changes) {
        const size_t at = random() % source.size(), size = random() % 12;
        if (random() % 2 == 0) source.erase(at, size);
        if (random() % 2 == 0)
          source.insert(std::min(at, source.size()), kPieces[random() % std::size(kPieces)]);
      }
      expect_end(source);
    }
  }
}

TEST(Hostile, RenderingIsPromptAtTheLimit) {
  const auto start = std::chrono::steady_clock::now();
  expect_error("{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}", "");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

}  // namespace
}  // namespace tessera::jinja
