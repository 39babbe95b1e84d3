"""A stand-in for `tessera serve`: the page, and answers that are always the same."""
import http.server
import json
import threading
import time

ANSWER = ("A **river** is water that flows. <img src=x onerror=\"window.broken=1\"><b>bold?</b>\n\n- It begins at a spring.\n"
          "- It ends in `the sea`.\n\n```python\nprint(\"<script>window.broken=1</script>\")\n```\nThat is all, Grüße 世界 👋.")
PIECES = 60


class StandIn:
    """Serves until the program ends. `requests` holds the JSON bodies, `aborted` counts clients that went away."""

    def __init__(self, page):
        self.page = page
        self.requests, self.aborted, self.chats, self.key = [], 0, True, None
        stand_in = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                if self.path == "/":
                    self.answer(200, "text/html; charset=utf-8", stand_in.page.read_bytes())
                elif self.path == "/v1/models" and self.has_key():
                    model = {"id": "stand-in", "object": "model", "chat_template": stand_in.chats}
                    self.answer(200, "application/json", json.dumps({"object": "list", "data": [model]}).encode())
                elif self.path != "/v1/models":
                    self.answer(404, "application/json", b"{}")

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stand_in.requests.append(body)
                asked = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
                if asked == "refuse":
                    self.refuse(400, "the context is full")
                elif self.has_key():
                    self.stream(asked)

            def has_key(self):
                if stand_in.key and self.headers.get("Authorization") != "Bearer " + stand_in.key:
                    self.refuse(401, "this server wants a key")
                    return False
                return True

            def refuse(self, status, message):
                self.answer(status, "application/json", json.dumps({"error": {"message": message}}).encode())

            def answer(self, status, kind, body):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def event(self, data):
                self.wfile.write(b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n")
                self.wfile.flush()

            def stream(self, asked):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    self.write_answer(asked)
                except (BrokenPipeError, ConnectionResetError):
                    stand_in.aborted += 1

            def write_answer(self, asked):
                size = -(-len(ANSWER) // PIECES)
                count = 10_000 if asked == "endless" else PIECES
                for i in range(count):
                    text = "and on " if asked == "endless" else ANSWER[i * size:(i + 1) * size]
                    part = {"delta": {"content": text}} if stand_in.chats else {"text": text}
                    self.event({"choices": [{"index": 0, "finish_reason": None, **part}]})
                    if asked == "break" and i == 5:
                        self.event({"error": {"message": "the logits are not finite"}})
                        return
                    time.sleep(0.02)
                self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                self.event({"choices": [], "usage": {"completion_tokens": count}})
                self.event(b"[DONE]")

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}/"
        threading.Thread(target=server.serve_forever, daemon=True).start()
