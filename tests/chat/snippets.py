"""Small templates for single rules of the language, rendered with VARIABLES."""

VARIABLES = {
    "n": 7, "f": 2.5, "big": 9007199254740993, "t": True, "no": None, "s": "Hello, World", "u": "naïve 世界 👋🏽",
    "empty": "", "blank": " \t\n x \n", "l": [3, 1, 2], "m": [[1, 2], ["a", None]], "e": [],
    "d": {"b": 1, "a": {"x": [1, {"y": "z"}]}, "items": "shadowed", "c c": 0.1},
    "users": [{"name": "Ann", "age": 30, "tags": ["x"]}, {"name": "bob", "age": 25, "tags": []},
              {"name": "Cyd", "age": 30, "admin": True}],
    "html": "<a href=\"x\">'&'</a>", "csv": "a,b,,c", "lines": "one\n\n  two\r\nthree\n",
}

ONE_LINE = r"""
{{ n }} {{ f }} {{ t }} {{ no }} {{ s }} {{ l }} {{ m }} {{ d }} {{ e }} {{ {} }} {{ () }} {{ (1,) }} {{ 1, 2 }}
{{ 1e3 }} {{ 1.0 }} {{ 1e16 }} {{ 123456789012345678.0 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1.5e300 }} {{ 1_000 }} {{ 0x1f }} {{ 0b11 }} {{ 0o17 }} {{ -0.0 }}
{{ big }} {{ big + 1 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}
{{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ 2 ** 3 ** 2 }} {{ 10 - 2 - 3 }} {{ "a" ~ 1 + 2 ~ "b" if false else "x" }}
{{ "a" ~ 1 ~ none ~ true ~ [1] ~ 2.0 }} {{ "a" * 3 }} {{ 3 * "ab" }} {{ [1] * 2 + [3] }} {{ "-" * 0 }} {{ "-" * -3 }}
{{ true + true }} {{ true == 1 }} {{ 1 == 1.0 }} {{ "1" == 1 }} {{ [1, 2] == [1, 2] }} {{ (1, 2) == [1, 2] }} {{ {"a": 1} == {"a": 1.0} }} {{ none == none }} {{ none == false }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 1 == 1 }} {{ 3 > 2 > 2 }} {{ "a" < "b" }} {{ [1, 2] < [1, 3] }} {{ 1 != 2 }} {{ "Z" < "a" }} {{ "é" > "z" }}
{{ 1 in [1, 2] }} {{ "a" in "cat" }} {{ "b" not in d }} {{ "b" in d }} {{ 4 not in l }} {{ none in [none] }} {{ not 1 in [1] }} {{ "" in "x" }} {{ 1 in missing }}
{{ 0 or "x" }} {{ 1 and "y" }} {{ "" or none or e }} {{ 0 and missing.x }} {{ not "" }} {{ not not 5 }} {{ missing or "d" }} {{ true and false or 3 }}
{{ "yes" if n > 5 else "no" }} {{ "yes" if n > 9 }}| {{ 1 if false else 2 if false else 3 }} {{ (1 if true) + 1 }}
{{ missing }}|{{ missing is defined }}|{{ d.nope }}|{{ d["nope"] }}|{{ l[9] }}|{{ s.nope }}|{{ no.x is defined }}
{{ missing.x }}
{{ d.nope.x }}
{{ d["nope"]["x"] }}
{{ l[9].x }}
{{ no.x.y }}
{{ s.nope.x }}
{{ missing() }}
{{ missing + 1 }}
{{ 1 + missing }}
{{ missing ~ "x" }}|{{ missing == missing }}|{{ missing == none }}|{{ missing|length }}|{{ missing|list }}|{{ missing|string }}|{{ missing|upper }}
{{ missing < 1 }}
{{ -missing }}
{{ missing|int }}
{{ (1 if false).x }}
{{ missing|default("d") }} {{ none|default("d") }} {{ ""|default("d") }} {{ ""|default("d", true) }} {{ none|d("d", boolean=true) }} {{ missing|d }} {{ 0|default(1, boolean=true) }}
{{ d.a.x[1].y }} {{ d["a"]["x"][1]["y"] }} {{ d.a.x.0 }} {{ l.0 }} {{ l[-1] }} {{ s[0] }} {{ s[-1] }} {{ u[6] }} {{ u[-2] }} {{ d["c c"] }}
{{ d["items"] }}
{{ d.items() | list }} {{ d.keys() | list }} {{ d.values() | list }} {{ d.get("b") }} {{ d.get("q") }} {{ d.get("q", 5) }} {{ d.get("items") }}
{{ s[1:3] }} {{ s[:-2] }} {{ s[::-1] }} {{ s[::2] }} {{ s[5:1:-1] }} {{ u[::-1] }} {{ l[1:] }} {{ l[:1] }} {{ l[::-1] }} {{ l[10:] }} {{ l[-2:] }} {{ (1, 2, 3)[1:] }} {{ l[none:2] }} {{ s[100:-100:-3] }}
{{ s[::0] }}
{{ n[1:] }}
{{ no[1:] }}
{{ d[1:] }}
{{ missing[1:] }}
{{ [1] in d }}
{{ d[[1]] is defined }}|{{ n[0] }}|{{ n["a"] }}|{{ l["a"] }}|{{ l[1.5] }}|{{ d[missing] }}
{{ d.append }}|{{ l.append is defined }}|{{ d.update is defined }}|{{ l.count(1) }}|{{ l.index(2) }}|{{ s.index("W") }}|{{ u.find("世") }}|{{ s.find("q") }}
{{ l.append(4) }}
{{ d.update({"q": 1}) }}
{{ d.pop("b") }}
{{ l.pop() }}
{{ s.__class__ }}|{{ s.__class__.__mro__ is defined }}
{{ s|upper }} {{ s|lower }} {{ "hELLO wORLD"|capitalize }} {{ "hello-world foo(bar) it's x_y"|title }} {{ "it's a 3rd".title() }} {{ u|upper }} {{ "éÀ"|lower }} {{ s.upper() }} {{ s.lower() }} {{ "abc DEF".capitalize() }}
[{{ blank|trim }}] [{{ blank.strip() }}] [{{ blank.lstrip() }}] [{{ blank.rstrip() }}] [{{ "xxaxx"|trim("x") }}] [{{ "xyaxy".strip("yx") }}] [{{ "..a..".lstrip(".") }}] [{{ "..a..".rstrip(".") }}] [{{ " a ".strip(none) }}] [{{ "\u2003a\u3000\u00a0"|trim }}] [{{ "ééaé".strip("é") }}]
{{ csv.split(",") }} {{ csv.split(",", 1) }} {{ csv.split(",", maxsplit=2) }} {{ csv.rsplit(",", 1) }} {{ " a  b ".split() }} {{ "a b c d".split(none, 1) }} {{ " a b c ".split(maxsplit=1) }} {{ "".split() }} {{ "".split(",") }} {{ "abc".split("abc") }} {{ "a<x>b<x>c".split("<x>")[-1] }}
{{ csv.split("") }}
{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ "a\x0bb\u2028c".splitlines() }}
{{ s.startswith("Hell") }} {{ s.endswith(("x", "ld")) }} {{ s.startswith("") }} {{ s.replace("l", "L") }} {{ s.replace("l", "L", 1) }} {{ "abc".replace("", "-") }} {{ "abc".replace("", "-", 2) }} {{ s|replace("o", 0) }} {{ s|replace("l", "", count=2) }}
{{ ", ".join(["a", "b"]) }} {{ "ab".join("xyz") }} {{ s.count("l") }} {{ s.count("") }} {{ "aaa".count("aa") }} {{ "12".isdigit() }} {{ "".isdigit() }} {{ " \t".isspace() }} {{ s.rfind("o") }} {{ "k=v=w".partition("=") }} {{ "k=v=w".rpartition("=") }} {{ "kv".partition("=") }} {{ "prefix-x".removeprefix("prefix-") }} {{ "x.txt".removesuffix(".txt") }}
{{ ",".join([1]) }}
{{ s.nope() }}
{{ n() }}
{{ l|length }} {{ s|length }} {{ u|length }} {{ d|length }} {{ e|count }} {{ "👩‍👩‍👧"|length }}
{{ n|length }}
{{ l|first }} {{ l|last }} {{ e|first }}| {{ s|first }} {{ u|last }} {{ d|first }} {{ l|reverse|list }} {{ s|reverse }} {{ l|sum }} {{ users|sum(attribute="age") }} {{ l|max }} {{ l|min }} {{ ["b", "A"]|min }} {{ ["b", "A"]|min(case_sensitive=true) }} {{ [0.1, 0.2]|sum(start=1) }}
{{ (e|first).x }}
{{ l|join }} {{ l|join(", ") }} {{ users|join(", ", attribute="name") }} {{ s|join("-") }} {{ [none, true, 1.0]|join("|") }} {{ e|join("x") }}|
{{ l|sort }} {{ l|sort(reverse=true) }} {{ ["b", "A", "c"]|sort }} {{ ["b", "A", "c"]|sort(case_sensitive=true) }} {{ users|sort(attribute="age")|map(attribute="name")|list }} {{ users|sort(attribute="age", reverse=true)|map(attribute="name")|list }}
{{ [1, "a"]|sort }}
{{ d|dictsort }} {{ {"B": 1, "a": 2, "C": 0}|dictsort }} {{ {"B": 1, "a": 2, "C": 0}|dictsort(true) }} {{ {"B": 1, "a": 2, "C": 0}|dictsort(by="value") }} {{ {"B": 1, "a": 2}|dictsort(false, "key", true) }}
{{ d|dictsort(by="x") }}
{{ d|items|list }} {{ missing|items|list }} {{ "abc"|list }} {{ d|list }} {{ (1, 2)|list }} {{ range(3)|list }} {{ range(1, 4)|list }} {{ range(5, 0, -2)|list }} {{ range(0)|list }}
{{ l|items|list }}
{{ range(1000000)|list }}
{{ range(1, 2, 0) }}
{{ users|map(attribute="name")|list }} {{ users|map(attribute="admin", default=false)|list }} {{ users|map(attribute="tags.0", default="-")|list }} {{ ["a", "b"]|map("upper")|list }} {{ [" a", "b "]|map("trim")|join(",") }} {{ ["x"]|map("replace", "x", "y")|list }} {{ [[1, 2], [3]]|map("length")|list }} {{ [[5, 6]]|map(attribute=1)|list }}
{{ users|selectattr("admin", "defined")|map(attribute="name")|list }} {{ users|selectattr("age", "equalto", 30)|list|length }} {{ users|rejectattr("age", "gt", 26)|map(attribute="name")|list }} {{ users|selectattr("tags")|map(attribute="name")|list }} {{ [1, 0, 2, none]|select|list }} {{ [1, 2, 3]|select("odd")|list }} {{ [1, 2, 3]|reject("equalto", 2)|list }} {{ [1, 2, 3, 4]|select("divisibleby", 2)|list }} {{ ["a", 1]|select("string")|list }} {{ [1, 5]|select(">", 2)|list }} {{ [1, 2]|select("in", [2, 3])|list }}
{{ [1, 2, 1, "a", "A"]|unique|list }} {{ users|unique(attribute="age")|map(attribute="name")|list }} {{ [1, 2, 3, 4, 5]|batch(2)|list }} {{ [1, 2, 3]|batch(2, "x")|list }} {{ users|groupby("age")|map("first")|list }}
{% for age, group in users|groupby("age") %}{{ age }}: {{ group|map(attribute="name")|join("+") }};{% endfor %}
{{ "1"|int }} {{ " 42 "|int }} {{ "4.7"|int }} {{ 4.7|int }} {{ -4.7|int }} {{ "x"|int }} {{ "x"|int(5) }} {{ "ff"|int(base=16) }} {{ none|int }} {{ true|int }} {{ "1.5"|float }} {{ 3|float }} {{ "x"|float }} {{ "-3"|int }} {{ -3|abs }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 2.1|round(0, "ceil") }} {{ 2.9|round(method="floor") }} {{ 7|round }} {{ 1234.5|round(-2) }}
{{ html|e }} {{ html|escape }} {{ html|safe }} {{ html|string }} {{ "a b  c"|wordcount }} [{{ "abc"|center(9) }}] [{{ "abcd"|center(7) }}] [{{ "abc"|center(8) }}] {{ "%s-%d-%.2f-%5s|%-5s|%05d|%x"|format("a", 3, 2.0, "r", "l", 42, 255) }} {{ "%s and %s" % ("x", [1]) }} {{ "%(k)s"|format(k="v") }} {{ "100%%" % () }} {{ "%r" % "q" }} {{ "%s" % 5 }}
{{ "%d" % "x" }}
{{ "%s %s" % ("a",) }}
{{ "%s" % ("a", "b") }}
{{ "a\nb\n\nc"|indent }} {{ "a\nb"|indent(2, true) }} {{ "a\n\nb"|indent(2, blank=true) }} {{ "a\nb"|indent("> ") }} {{ ""|indent }}| {{ "a\n"|indent(2) }}|
{{ d|tojson }} {{ d|tojson(indent=2) }} {{ users|tojson(indent=1, separators=(",", ":")) }} {{ d|tojson(sort_keys=true) }} {{ u|tojson }} {{ u|tojson(ensure_ascii=true) }} {{ "\"\\/\b\f\n\r\t\u0001\u007f\u2028"|tojson }} {{ html|tojson }} {{ [none, true, 1, 1.0, 1e20, "x"]|tojson }} {{ {1: 2, none: 3, true: 4, 2.5: 5}|tojson }} {{ {}|tojson(indent=2) }} {{ []|tojson(indent=2) }} {{ (1, 2)|tojson }} {{ [[], {}, [1]]|tojson(indent=2) }} {{ d|tojson(separators=(",", ":")) }}
{{ missing|tojson }}
{{ namespace()|tojson }}
{{ {(1, 2): 3}|tojson }}
{{ {[1]: 2} }}
{{ {"a": 1, "a": 2, "b": 3} }} {{ {1: "i", 1.0: "f", true: "b"} }} {{ {"x" ~ 1: n}["x1"] }} {{ dict(a=1, b="c") }} {{ dict({"z": 0}, y=1) }}
{{ "it's" }} {{ ["it's", 'q"q', "b\\s", "both'\"", "\t\n\r", "\x00\x7f\xa0\u200b", "é世👋"] }} {{ {"k'": "v"} }}
{{ 'single \'q\' \x41 \u00e9 \U0001F44B \101 \q' }} {{ "a" "b" 'c' }}
{{ n is defined }} {{ n is undefined }} {{ no is none }} {{ n is not none }} {{ n is number }} {{ t is number }} {{ f is float }} {{ n is integer }} {{ t is integer }} {{ t is boolean }} {{ t is true }} {{ 1 is true }} {{ false is false }} {{ s is string }} {{ l is sequence }} {{ s is sequence }} {{ d is sequence }} {{ n is sequence }} {{ d is mapping }} {{ l is mapping }} {{ l is iterable }} {{ s is iterable }} {{ n is iterable }} {{ missing is sequence }} {{ missing is iterable }} {{ missing is mapping }} {{ range is callable }} {{ n is callable }} {{ "A" is upper }} {{ "1" is upper }} {{ "" is lower }} {{ "ab" is lower }}
{{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ n is eq 7 }} {{ n is equalto(7.0) }} {{ n is sameas 7 }} {{ t is sameas true }} {{ n is gt 3 }} {{ n is lt(3) }} {{ n is ge 7 }} {{ n is ne 8 }} {{ "a" is in "abc" }} {{ 1 is in [2] }} {{ n is not odd }} {{ not n is odd }} {{ "upper" is filter }} {{ n is divisibleby 7 and true }} {{ s is string and s is not mapping or false }} {{ n is defined is true }}
{{ n is defined if n is odd else 2 }} {{ (n is defined) is true }} {{ -n is number }} {{ l|length is eq 3 }} {{ l|length > 2 and s|length < 99 }} {{ l|length + 1 }} {{ -f|abs }} {{ s|upper ~ s|lower|trim }}
{{ n is nope }}
{{ n|nope }}
{% if false %}{{ n|nope }}{% endif %}fine
{{ none + 1 }}
{{ "a" + 1 }}
{{ [1] + "a" }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ 1 < "a" }}
{{ 1 in 2 }}
{{ none|upper }}{{ true|lower }}{{ 5|trim }}{{ [1]|string|length }}
{% for x in 5 %}{% endfor %}
{% for x in none %}{% endfor %}
{% for x in missing %}x{% else %}none{% endfor %}
{% for x in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.depth }}/{{ loop.previtem }}/{{ loop.nextitem }};{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c in u %}<{{ c }}>{% endfor %}
{% for a, b in m %}{{ a }}-{{ b }} {% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for a, b in ["xy"] %}{{ b }}{{ a }}{% endfor %}
{% for a, b in [[1]] %}{% endfor %}
{% for a, b in [[1, 2, 3]] %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}{{ "," if not loop.last }}{% endfor %} {% for x in l if x > 9 %}{% else %}none{% endfor %} {% for x in l if x > 1 %}{{ loop.length }}{% endfor %}
{% set ns = namespace(on=true) %}{% for x in [1, 2, 3, 4] if ns.on %}{{ x }}{% if x == 2 %}{% set ns.on = false %}{% endif %}{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% else %}never{% endfor %} {% for x in [] %}{% break %}{% else %}else{% endfor %}
{% for x in [1, 2] %}{% for y in [1, 2, 3] %}{% if y == 2 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{% endfor %}
{% for x in l recursive %}{{ x }}{% endfor %}{% for x in [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3}]}] recursive %}[{{ x.v }}@{{ loop.depth }}{{ loop(x.c) if x.c }}]{% endfor %}
{% for x in l %}{{ loop(x) }}{% endfor %}
{% for x in l %}{{ loop.cycle("a", "b") }}{{ loop.changed(x > 1) }} {% endfor %}
{% for x in l %}{% set y = x %}{% endfor %}{{ y is defined }} {% set y = 0 %}{% for x in l %}{{ y }}{% set y = y + x %}{{ y }} {% endfor %}{{ y }} {{ x is defined }} {{ loop is defined }}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% set z = 3 %}{% endif %}{{ x }}{{ z }} {% for x in [9] %}{{ x }}{% endfor %}{{ x }}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set (a, b) = (b, a) %}{{ a }}{{ b }} {% set c = 1, %}{{ c }} {% set t = [1, 2] %}{{ t }}
{% set ns = namespace(a=1, b=[]) %}{% set ns.a = ns.a + 1 %}{% set ns.c = "new" %}{{ ns.a }} {{ ns.c }} {{ ns["a"] }} {{ ns.q is defined }} {% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }} {% set ns.b = ns.b + [1] %}{{ ns.b }} {% set ns2 = namespace({"x": 5}, y=6) %}{{ ns2.x }}{{ ns2.y }}
{{ namespace().x.y }}
{% set d.x = 1 %}
{% set nope.x = 1 %}
{% set x %}a {{ n }} b{% endset %}[{{ x }}] {% set y | upper | trim %} q {% endset %}[{{ y }}]{% set ns = namespace() %}{% set ns.z %}zz{% endset %}{{ ns.z }}
{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }} {{ m(c=0, a=1) }} {{ m() }}| {{ m(1)|length }} {{ m.name }}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }} {{ m(1) }}
{% macro f(n) %}{{ n if n < 2 else f(n - 1)|int + f(n - 2)|int }}{% endmacro %}{{ f(10) }}
{% macro m() %}{{ later }}{% endmacro %}{% set later = "seen" %}{{ m() }} {% macro o() %}{% set inner = 1 %}{{ inner }}{% endmacro %}{{ o() }}{{ inner is defined }}
{% macro wrap(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call wrap("b") %}in {{ n }}{% endcall %} {% macro each(l) %}{% for x in l %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(x) each(l) %}[{{ x }}]{% endcall %} {% macro maybe() %}{{ caller is defined }}{{ caller() if caller }}{% endmacro %}{{ maybe() }}{% call maybe() %}c{% endcall %}
{% macro m() %}{% endmacro %}{% call m() %}x{% endcall %}
{{ m(*[1], **{}) if m is callable else "list" }}{% macro k(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ k(*[1, 2]) }}{{ k(1, **{"b": 3}) }}
{% filter upper %}abc {{ s }}{% endfilter %} {% filter replace("a", "b") | upper %}aXa{% endfilter %}
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }} {% set a = 5 %}{% with a = 1, b = a %}{{ b }}{% endwith %}{% with %}{% set q = 1 %}{% endwith %}{{ q is defined }}
{% generation %}{% set g = 1 %}{{ g }}{% endgeneration %}{{ g is defined }}
{% raw %}{{ x }} {% if %} {# #}{% endraw %} {%- raw -%}  y  {%- endraw -%}  z
{% if n == 1 %}1{% elif n == 7 %}7{% elif true %}t{% else %}e{% endif %}{% if missing %}x{% elif missing2 %}y{% endif %}
{{ joiner is defined }}{% set j = joiner("|") %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}{% set k = joiner() %}{{ k() }}{{ k() }}
{{ raise_exception("no " ~ n) }}
{% if false %}{{ raise_exception("never") }}{% endif %}{{ strftime_now("%d %b %Y %H:%M %j") }}
{{ "{{ not a tag }}" }} {{ "%}" }} {{ "}}" }} {{ {"a": {"b": 1}}.a.b }} {{ {"a": {"b": 1}}}}
{{ [1, 2,] }} {{ {"a": 1,} }} {{ (1, 2,) }} {{ range(3,)|list }}
{{ x.y.z if x is defined else "u" }} {{ d.a is mapping and d.a.x is iterable }} {{ d.a.x[0] + l[0] }} {{ users[0].name[0] }} {{ users[-1]["name"][::-1] }} {{ (users|first).name }} {{ users|map(attribute="name")|first|lower }}
{{ loop }}
{% break %}
{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% do l.append(1) %}
{% include "x" %}
{% extends "x" %}
{% endif %}
{% if true %}
{% for x in l %}{% endif %}
{% if %}{% endif %}
{{ }}
{{ 1 + }}
{{ a b }}
{{ (1 }}
{{ [1, }}
{{ "open }}
{{ 1
{% if
{# open
{{ a.1b }}
{{ a..b }}
{{ a | }}
{{ a is }}
{{ 5 = 5 }}
{{ $ }}
{% set 1 = 2 %}
{% set none = 2 %}
{% macro m(a=1, b) %}{% endmacro %}
{% for x l %}{% endfor %}
{{ m(a=1, 2) }}
{{ m(**a, *b) }}
{% set x = %}
{% unknown %}
{% if a == 1 }x{% endif %}
{% else %}
{{ 1 is defined is none }}
"""


SEVERAL_LINES = [
    "  {% if true %}\n    a\n  {% endif %}\nb\n", "  {%+ if true %}\n    a\n  {%+ endif +%}\nb", "{% if true %}\n\ntwo{% endif %}\n",
    "a{% set x = 1 %}\nb{% set y = 2 -%}\n   c", "  {% for x in [1, 2] %}\n  - {{ x }}\n  {% endfor %}\nend\n\n",
    "{{ 'a' -}}\n\n   {{- 'b' }}\t{%- if 1 %} c{% endif %}", "a\r\nb\rc\n{{ n }}\r\n", "\n\n{{ n }}\n\n\n", "x\n  {# own line #}\ny {# end #}\nz",
    "{% raw %}\n  {{ a }}\n  {% endraw %}\nx", "{%- raw -%}\n y \n{%- endraw -%}\n z", "  {%- if true %}\n  q\n  {%- endif %}\n", "\t {% set x = 1 %}\t\n\t{{ x }}",
    "{% set x %}\n  a\n{% endset %}\n[{{ x }}]", "{% macro m() %}\n  body\n{% endmacro %}\n{{ m() }}\nend", "{{ 'a\nb' }}", "{{\n n\n}}\n{%\nif t\n%}\nx\n{%\nendif\n%}\n",
    "{% for x in l -%}\n  {{ x }}\n{%- endfor %}\n.", "a\n{%- if true %}\nb\n{% endif -%}\nc", "{#- a -#}\n\n{%- if true -%}\n\n x \n\n{%- endif -%}\n\n", "x {{- ' y ' -}} z",
    "  {{ n }}  \n  {% if t %}  {# c #}\n  y{% endif %}", "\u3000{%- if t %}\u00a0z\u2003{%- endif %}", "", "\n", "no tags at all\n\n", "{", "{ {", "a { b } c }} %} #}",
    "line {{ missing.x }}", "one\ntwo {{ l|nope }}", "{% if t %}\n  {{ d.q.r }}\n{% endif %}", "{{ 'it\\'s' ~ \"\\\"q\\\"\" }}",
]

SNIPPETS = ONE_LINE.strip("\n").split("\n") + SEVERAL_LINES
