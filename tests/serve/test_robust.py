"""What hostile, broken and slow clients can do: nothing that another one notices."""

import json
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from served import MODEL, PROGRAM, THREADS, Api, Server, eventually, events_of, free_port, received

HEAD = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
LONG = {"prompt": "The city", "max_tokens": 490, "ignore_eos": True}


class Bytes(unittest.TestCase):
    """One server hears all of it, and answers an ordinary request at the end."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("-q")
        cls.files = cls.server.open_files()

    @classmethod
    def tearDownClass(cls):
        assert eventually(lambda: cls.server.idle() and cls.server.open_files() <= cls.files, 5)
        assert cls.server.complete(prompt="The city", max_tokens=3)["usage"]["completion_tokens"] == 3
        assert cls.server.stop() == 0

    def answer_to(self, data):
        with self.server.connect() as client:
            client.sendall(data if isinstance(data, bytes) else data.encode())
            client.settimeout(20)
            return client.recv(65536)

    def test_what_is_no_http(self):
        for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                     b"GET /health HTTP/9.9\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n", b"GET /health\r\n\r\n",
                     b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n", b"GET /health HTTP/1.1\r\nA\x00B: 1\r\n\r\n"):
            self.assertTrue(self.answer_to(data).startswith(b"HTTP/1.1 400 "), data)

    def test_lengths_that_lie(self):
        for length in ("-1", "1e3", "0x10", "99999999999999999999", "5, 6"):
            answer = self.answer_to(f"{HEAD}Content-Length: {length}\r\n\r\nxxxxx")
            self.assertRegex(answer.decode(), "^HTTP/1.1 4(00|13) ", length)
        self.assertIn(b" 413 ", self.answer_to(f"{HEAD}Content-Length: {10 ** 9}\r\n\r\n"))
        # Two lengths of one body: who believes which is how requests are smuggled.
        both = f"{HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        self.assertIn(b" 400 ", self.answer_to(both))
        self.assertIn(b" 400 ", self.answer_to(f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n"))

    def test_a_body_in_chunks_has_the_same_limit(self):
        with self.server.connect() as client:
            client.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
            piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
            try:
                for _ in range(10):
                    client.sendall(piece)
            except OSError:
                pass  # it has closed already
            self.assertIn(b" 413 ", client.recv(65536))

    def test_bodies_that_are_no_requests(self):
        for body in (b"", b"null", b"[]", b'"x"', b"{" * 10 ** 6, b"[" * 10 ** 6, b'{"a":' * 10 ** 5, b'{"prompt": "\xff"}',
                     b'{"prompt": "\xed\xa0\x80"}', b'{"prompt": "x", "max_tokens": 1e999}', b'{"prompt": "x"} trailing'):
            for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
                status, _, answer = self.server.request("POST", path, body)
                self.assertEqual(status, 400, (path, body[:40]))
                self.assertEqual(set(answer["error"]), {"message", "type", "param", "code"})

    def test_values_out_of_range(self):
        for field, values in {
                "prompt": ([], "", [[]], [5, -1], [5, 4096], [5, 2 ** 40], [5, 1.5], [5, "a"], [[5], "a", {}], {}, 7, [None]),
                "max_tokens": (-1, 2 ** 70, "5", 1.5), "temperature": (-1, 1e9, "hot"), "top_p": (0, 1.1), "n": (0, 17),
                "logprobs": (-1, 21), "stop": (["x"] * 65, "x" * 1025, [1]), "seed": ("a", 1e300),
                "logit_bias": ({"x": 1}, {"-1": 1}, {"4096": 1}, {"5": 101}, {str(i): 0 for i in range(1025)}, [1]),
                "stream_options": (5, {"include_usage": "yes"}), "response_format": ({"type": "json_object"}, "text")}.items():
            for value in values:
                request = {"prompt": "x", "max_tokens": 1, "add_special_tokens": False, field: value}
                status, _, answer = self.server.post("/v1/completions", request)
                self.assertEqual((status, answer.get("error", {}).get("param")), (400, field), (field, str(value)[:60]))
        self.assertEqual(self.server.post("/detokenize", {"tokens": [0, 10 ** 9]})[0], 400)

    def test_a_stop_string_across_events_is_never_sent(self):
        fields = {"prompt": "The city", "max_tokens": 40, "temperature": 0, "stream": True}
        text = "".join(e["choices"][0]["text"] for e in events_of(self.server.post("/v1/completions", fields)[2]))
        for start in range(2, 30, 7):
            stop = text[start:start + 9]
            events = events_of(self.server.post("/v1/completions", {**fields, "stop": stop})[2])
            self.assertEqual("".join(e["choices"][0]["text"] for e in events), text[:text.index(stop)])
            self.assertEqual(events[-1]["choices"][0]["finish_reason"], "stop")

    def test_half_a_connection_is_a_client_that_left(self):
        for stream in (False, True):
            client = self.server.send("/v1/completions", {**LONG, "stream": stream})
            self.assertTrue(eventually(lambda: self.server.metric("requests_running") > 0))
            client.shutdown(socket.SHUT_WR)
            self.assertTrue(eventually(self.server.idle, 1))
            client.close()

    def test_resets_under_an_answer(self):
        clients = [self.server.send("/v1/completions", {**LONG, "stream": True}) for _ in range(20)]
        self.assertTrue(eventually(lambda: self.server.metric("requests_running") > 0))
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends a reset
            client.close()
        self.assertTrue(eventually(self.server.idle, 1))


class Slow(unittest.TestCase):
    def closed_after(self, client, drip=b""):
        """Seconds until the server closes; meanwhile a byte every now and then."""
        began = time.monotonic()
        client.settimeout(0.2)
        while time.monotonic() - began < 60:
            try:
                if drip:
                    client.sendall(drip)
                if client.recv(1) == b"":
                    break
            except socket.timeout:
                continue
            except OSError:
                break
        client.close()
        return time.monotonic() - began

    def test_time_outs(self):
        with Server("-q") as server:
            files = server.open_files()
            header, body, mute = server.connect(), server.connect(), server.connect()
            header.sendall(b"GET /health HTTP/1.1\r\nX-")
            body.sendall(f"{HEAD}Content-Length: 5000\r\n\r\n".encode())
            # An answer of megabytes to a client that reads none of it: more than the buffers between the two hold.
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((server.host, server.port))
            text = json.dumps({**LONG, "n": 16, "logprobs": 20, "temperature": 1, "seed": 1, "stream": True})
            deaf.sendall(f"{HEAD}Content-Length: {len(text)}\r\n\r\n{text}".encode())
            seconds = {}

            def watch(name, client, drip=b""):
                seconds[name] = self.closed_after(client, drip)
            threads = [threading.Thread(target=watch, args=arguments)
                       for arguments in (("header", header, b"x"), ("body", body, b"x"), ("mute", mute))]
            for thread in threads:
                thread.start()
            self.assertEqual(server.request("GET", "/health")[0], 200)
            for thread in threads:
                thread.join()
            for name, least in (("header", 10), ("mute", 10), ("body", 30)):
                self.assertTrue(least - 1 < seconds[name] < least + 10, seconds)
            self.assertTrue(eventually(lambda: server.idle() and server.open_files() <= files, 40))
            deaf.close()


class Failures(unittest.TestCase):
    def test_logits_that_are_not_finite(self):
        """A model that overflows: every request fails by name, and the server lives."""
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / "model"
            shutil.copytree(MODEL, model)
            overflow_first_mlp(model)
            with Server("-q", model=str(model)) as server:
                for fields in ({}, {"stream": True}, {"echo": True, "logprobs": 1}, {"n": 3}):
                    status, _, answer = server.post("/v1/completions", {"prompt": "The city", "max_tokens": 5, **fields})
                    self.assertEqual((status, answer["error"]["code"]), (500, "model_error"), fields)
                self.assertTrue(eventually(server.idle, 1))
                self.assertGreaterEqual(server.metric("nan_logits_total"), 4)
                self.assertEqual(server.request("GET", "/health")[0], 200)
                self.assertEqual(server.stop(), 0)

    def test_a_log_that_cannot_be_written(self):
        api = Api(free_port())
        with open("/dev/full", "w", encoding="ascii") as full:
            process = subprocess.Popen([PROGRAM, "--threads", THREADS, "serve", MODEL, "--port", str(api.port)], stderr=full)
        self.assertTrue(eventually(api.answers, 30))
        for _ in range(3):
            self.assertEqual(api.complete(prompt="The city", max_tokens=2)["usage"]["completion_tokens"], 2)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(20), 0)

    def test_an_end_under_load(self):
        server = Server("--drain", "1", "--max-batch", "8", "-q")
        clients = [server.send("/v1/completions", {**LONG, "n": 2, "stream": i % 2 == 0}) for i in range(60)]
        self.assertTrue(eventually(lambda: server.metric("requests_running") >= 8))
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        answers = [received(client).decode() for client in clients]
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - began, 10)
        for answer in answers:
            whole = "[DONE]" in answer or '"usage":{' in answer
            self.assertTrue(whole or '"code":"draining"' in answer, answer[:200] + " ... " + answer[-200:])
        self.assertTrue(any(" 503 " in answer for answer in answers))
        with self.assertRaises(OSError):
            server.connect()


def overflow_first_mlp(model):
    """Makes the norm before the first MLP as large as its type can: products overflow behind it."""
    largest = {"F32": b"\xff\xff\x7f\x7f", "F16": b"\xff\x7b", "BF16": b"\x7f\x7f"}
    for path in sorted(model.glob("*.safetensors")):
        with open(path, "r+b") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            tensor = json.loads(file.read(size)).get("model.layers.0.post_attention_layernorm.weight")
            if tensor:
                file.seek(8 + size + tensor["data_offsets"][0])
                file.write(largest[tensor["dtype"]] * tensor["shape"][0])
                return
    raise RuntimeError(f"no norm in {model}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
