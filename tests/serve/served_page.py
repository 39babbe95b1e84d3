"""The chat page of a real server, in a browser; exit status 77 where there is none (tests/page)."""

import pathlib
import subprocess
import sys
import tempfile

from served import Server

PAGE_TEST = pathlib.Path(__file__).resolve().parents[1] / "page" / "page_test.py"


def main():
    with tempfile.TemporaryDirectory() as folder:
        template = pathlib.Path(folder) / "plain.jinja"
        template.write_text("{{ bos_token }}{% for m in messages %}{{ m.content }} {% endfor %}")
        with Server("-q", "--chat-template", str(template)) as server:
            status = subprocess.run([PAGE_TEST, "--url", server.url + "/", *sys.argv[1:]], check=False).returncode
            if status == 0 and server.metric("generated_tokens_total") == 0:
                raise SystemExit("the page has not asked the server")
    raise SystemExit(status)


if __name__ == "__main__":
    main()
