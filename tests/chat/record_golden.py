#!/usr/bin/env python3
"""Records what Jinja2 makes of the templates and snippets of this folder, set up as Hugging Face Transformers does.

    python3 -m venv venv
    venv/bin/pip install jinja2==3.1.6
    venv/bin/python tests/chat/record_golden.py

Writes golden.json beside itself: {"templates": {name: source}, "conversations": {name: variables}, "cases": [...]}.
A case names a template and a conversation, or has a "source" and the VARIABLES of snippets.py, and holds what came of it:
"output", "raised" (the text given to raise_exception), "fails" (another error while rendering, with the class of
the exception and its text), or "malformed" (an error while parsing). The same version gives the same file.
"""
import datetime
import json
import os
import pathlib
import time

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from conversations import CONVERSATIONS
from snippets import SNIPPETS, VARIABLES

HERE = pathlib.Path(__file__).parent
NOW = 1714521600  # what strftime_now() takes for now, in UTC


class Raised(Exception):
    pass


class Generation(jinja2.ext.Extension):
    """{% generation %} marks the assistant's words for training."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass_on"), [], [], body).set_lineno(line)

    def _pass_on(self, caller):
        return caller()


def raise_exception(message):
    raise Raised(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def make_environment():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(NOW).strftime(form)
    return environment


def outcome(environment, source, variables):
    try:
        template = environment.from_string(source)
    except (jinja2.exceptions.TemplateSyntaxError, SyntaxError):
        return {"malformed": True}
    try:
        return {"output": template.render(**variables)}
    except Raised as raised:
        return {"raised": str(raised)}
    except Exception as error:  # noqa: BLE001: whatever a template can cause
        return {"fails": type(error).__name__, "message": str(error)}


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    environment = make_environment()
    templates = {path.stem: path.read_text() for path in sorted(HERE.glob("templates/*.jinja"))}
    cases = []
    for template, source in templates.items():
        for conversation, variables in CONVERSATIONS.items():
            for prompt in (True, False):
                result = outcome(environment, source, {**variables, "add_generation_prompt": prompt})
                cases.append({"template": template, "conversation": conversation, "add_generation_prompt": prompt, **result})
    for source in SNIPPETS:
        cases.append({"source": source, **outcome(environment, source, VARIABLES)})
    golden = {"now": NOW, "templates": templates, "conversations": CONVERSATIONS, "variables": VARIABLES, "cases": cases}
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
    print(f"{len(cases)} cases with Jinja2 {jinja2.__version__}")


if __name__ == "__main__":
    main()
