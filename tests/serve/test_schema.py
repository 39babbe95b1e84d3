"""Requests made from the server's own OpenAPI document, and whether every answer is what the document says.

    TESSERA=... TESSERA_MODEL=... python3 test_schema.py [EXAMPLES]      of each route, 10 by default

Needs schemathesis; clients.sh installs it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema

from served import Server, events_of

TEMPLATE = str(Path(__file__).resolve().parents[1] / "chat" / "templates" / "chatml.jinja")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def check_events(server, document):
    """The events of streams, which a schema of the whole answer does not see."""
    def judge(name, event):
        jsonschema.validate(event, {"$ref": f"#/components/schemas/{name}", "components": document["components"]})

    fields = {"stream": True, "max_tokens": 4, "stream_options": {"include_usage": True}}
    for path, name, own in [("/v1/completions", "Completion", {"prompt": "The city", "logprobs": 2, "n": 2}),
                            ("/v1/chat/completions", "ChatCompletionChunk",
                             {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "top_logprobs": 2})]:
        status, _, text = server.post(path, {**fields, **own})
        events = events_of(text)
        assert status == 200 and len(events) > 2, text
        for event in events:
            judge(name, event)
        assert any(event.get("usage") for event in events), text


def main():
    examples = sys.argv[1] if len(sys.argv) > 1 else "10"
    with Server("-q", "--chat-template", TEMPLATE) as server, tempfile.TemporaryDirectory() as folder:
        status, _, document = server.request("GET", "/openapi.json")
        assert status == 200 and document["openapi"] == "3.1.0"
        for path, operations in document["paths"].items():
            assert set(operations) <= {"get", "post"}, path
        check_events(server, document)
        here = Path(sys.executable).parent
        run = subprocess.run([here / "schemathesis", "run", f"{server.url}/openapi.json", "--checks", CHECKS,
                              "--phases", "examples,coverage,fuzzing", "--max-examples", examples, "--seed", "1",
                              "--request-timeout", "60", "--suppress-health-check", "all", "--no-color"], cwd=folder, check=False)
        assert server.idle()
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
