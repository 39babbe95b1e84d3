"""Starts `tessera serve` for a test and talks to it; nothing beyond the standard library."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

PROGRAM = os.environ["TESSERA"]
MODEL = os.environ["TESSERA_MODEL"]
THREADS = os.environ.get("TESSERA_THREADS", "2")


class Api:
    """What can be asked of a server on this machine."""

    def __init__(self, port, host="127.0.0.1"):
        self.host, self.port = host, port
        self.url = f"http://{host}:{port}"

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=20)

    def answers(self):
        """Whether somebody listens."""
        try:
            return self.request("GET", "/health")[0] > 0
        except OSError:
            return False

    def request(self, method, path, body=None, headers=None):
        """Status, headers and body (parsed where it is JSON) of one request."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            data = json.dumps(body) if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            text = response.read()
            is_json = response.getheader("Content-Type", "").startswith("application/json")
            return response.status, response.headers, json.loads(text) if is_json and text else text.decode()
        finally:
            connection.close()

    def post(self, path, body, **headers):
        return self.request("POST", path, body, headers)

    def send(self, path, fields):
        """A connection on which a request is under way."""
        client = self.connect()
        body = json.dumps(fields)
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        return client

    def idle(self):
        """Whether nothing runs or waits, and no page is held."""
        return all(self.metric(name) == 0 for name in ("requests_running", "requests_waiting", "kv_pages_used"))

    def complete(self, **fields):
        """The answer to a completion that must succeed."""
        status, _, answer = self.post("/v1/completions", fields)
        assert status == 200, answer
        return answer

    def metric(self, name):
        """The sum of a metric over its labels."""
        _, _, text = self.request("GET", "/metrics")
        lines = re.findall(rf"^tessera_{name}{{.*}} (\S+)$", text, re.MULTILINE)
        return sum(float(value) for value in lines)


class Server(Api):
    """One running server; its log lines are in `log`."""

    def __init__(self, *options, model=MODEL):
        self.process = subprocess.Popen([PROGRAM, "--threads", THREADS, "serve", model, "--port", "0", *options],
                                        stderr=subprocess.PIPE, text=True)
        self.log = []
        ready = None
        for line in self.process.stderr:
            self.log.append(line)
            ready = re.search(r"ready +http://([\d.]+):(\d+)", line)
            if ready:
                break
        if not ready:
            raise RuntimeError("no server: " + "".join(self.log))
        super().__init__(int(ready[2]), ready[1])
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, signal_number=signal.SIGTERM, timeout=40):
        """Ends the server; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        status = self.process.wait(timeout)
        self.reader.join(5)
        self.process.stderr.close()
        return status

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def eventually(condition, seconds=5.0):
    """Whether the condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def received(client):
    """Everything until the other side closes."""
    with client:
        return b"".join(iter(lambda: client.recv(65536), b""))


def events_of(text):
    """The objects of an event stream; [DONE] must be its end."""
    events = [line[len("data: "):] for line in text.split("\n\n") if line.startswith("data: ")]
    assert events and events[-1] == "[DONE]", text[-200:]
    return [json.loads(event) for event in events[:-1]]
