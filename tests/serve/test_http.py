"""The server as raw HTTP meets it: routes, shapes, errors, limits, disconnects, hostile clients, its end."""

import json
import signal
import threading
import time
import unittest

from served import Server, eventually, events_of


class Routes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-name", "demo", "-q")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, "".join(cls.server.log)

    def refused(self, status, code, param, answer):
        self.assertEqual(answer[0], status, answer[2])
        error = answer[2]["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertEqual((error["code"], error["param"]), (code, param), error)

    def test_information(self):
        self.assertEqual(self.server.request("GET", "/health")[2], {"status": "ok"})
        models = self.server.request("GET", "/v1/models")[2]
        self.assertEqual([m["id"] for m in models["data"]], ["demo"])
        self.assertEqual(self.server.request("GET", "/v1/models/demo")[2]["max_model_len"], 512)
        self.assertIn("version", self.server.request("GET", "/version")[2])
        self.refused(404, "model_not_found", "model", self.server.request("GET", "/v1/models/other"))

    def test_unknown_routes_and_methods(self):
        self.refused(404, "route_not_found", None, self.server.request("GET", "/v1/embeddings"))
        answer = self.server.request("GET", "/v1/completions")
        self.refused(405, "method_not_allowed", None, answer)
        self.assertEqual(answer[1]["Allow"], "POST")

    def test_completion_has_the_whole_shape(self):
        began = int(time.time())
        answer = self.server.complete(model="demo", prompt="The city", max_tokens=5, temperature=0)
        self.assertGreaterEqual(answer["created"], began)
        self.assertEqual(answer["object"], "text_completion")
        choice = answer["choices"][0]
        self.assertEqual((choice["index"], choice["logprobs"], choice["finish_reason"]), (0, None, "length"))
        usage = answer["usage"]
        self.assertEqual(usage["completion_tokens"], 5)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 5)

    def test_greedy_text_is_the_same_streamed_batched_and_alone(self):
        prompts = ["The history of the city", "It was a cold", "A"]
        alone = [self.server.complete(prompt=p, max_tokens=20, temperature=0)["choices"][0]["text"] for p in prompts]
        together = self.server.complete(prompt=prompts, max_tokens=20, temperature=0)["choices"]
        self.assertEqual([c["text"] for c in together], alone)
        _, headers, text = self.server.post("/v1/completions", {
            "prompt": prompts, "max_tokens": 20, "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}})
        self.assertEqual(headers["Content-Type"], "text/event-stream")
        events = events_of(text)
        streamed = [""] * 3
        for event in events[:-1]:
            self.assertIsNone(event["usage"])
            for choice in event["choices"]:
                streamed[choice["index"]] += choice["text"]
        self.assertEqual(streamed, alone)
        self.assertEqual(events[-1]["choices"], [])
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 60)

    def test_seeds_choices_and_stops(self):
        fields = {"prompt": "The city", "max_tokens": 16, "temperature": 1, "seed": 7}
        text = self.server.complete(**fields)["choices"][0]["text"]
        self.assertEqual(self.server.complete(**fields)["choices"][0]["text"], text)
        several = self.server.complete(**fields, n=3)["choices"]
        self.assertEqual([c["index"] for c in several], [0, 1, 2])
        self.assertEqual(several[0]["text"], text)
        self.assertEqual(several[1]["text"], self.server.complete(**{**fields, "seed": 8})["choices"][0]["text"])
        stop = text[5:9]
        stopped = self.server.complete(**fields, stop=[stop])["choices"][0]
        self.assertEqual((stopped["text"], stopped["finish_reason"]), (text[:text.index(stop)], "stop"))
        # Without a seed, the one that was drawn is told, and repeats the text.
        del fields["seed"]
        _, headers, answer = self.server.post("/v1/completions", fields)
        again = self.server.complete(**fields, seed=int(headers["X-Seed"]))
        self.assertEqual(again["choices"][0]["text"], answer["choices"][0]["text"])

    def test_echo_and_logprobs(self):
        ids = self.server.post("/tokenize", {"prompt": "The old city by the river"})[2]["tokens"]
        whole = self.server.complete(prompt=[ids, ids[:3]], max_tokens=1, temperature=0, logprobs=2, echo=True)
        self.assertEqual(len(whole["choices"]), 2)
        scores = whole["choices"][0]["logprobs"]
        for array in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            self.assertEqual(len(scores[array]), len(ids) + 1, array)
        self.assertIsNone(scores["token_logprobs"][0])
        self.assertIsNone(scores["top_logprobs"][0])
        for own, top, name in list(zip(scores["token_logprobs"], scores["top_logprobs"], scores["tokens"]))[1:]:
            self.assertEqual(top[name], own)
            self.assertGreaterEqual(max(top.values()), own)
        # The token that greedy generation draws is the best one, to the last digit.
        self.assertEqual(scores["token_logprobs"][-1], max(scores["top_logprobs"][-1].values()))
        # A cached prefix changes nothing.
        again = self.server.complete(prompt=ids, max_tokens=1, temperature=0, logprobs=2, echo=True)
        self.assertEqual(again["choices"][0]["logprobs"], scores)
        only_prompt = self.server.complete(prompt=ids, max_tokens=0, logprobs=1, echo=True)["choices"][0]["logprobs"]
        self.assertEqual(only_prompt["token_logprobs"], scores["token_logprobs"][:-1])
        self.assertEqual(self.server.complete(prompt="The city", max_tokens=0, echo=True)["choices"][0]["text"],
                         "The city")

    def test_sampling_options_bear_on_the_text(self):
        base = {"prompt": "The city", "max_tokens": 30, "temperature": 0}
        plain = self.server.complete(**base, logprobs=0)["choices"][0]
        def tokens(text):
            return self.server.post("/tokenize", {"prompt": text})[2]["tokens"]
        first = tokens("The city" + plain["text"])[len(tokens("The city"))]
        for change in ({"logit_bias": {str(first): -100}}, {"presence_penalty": 2}, {"frequency_penalty": 2},
                       {"repetition_penalty": 1.5}):
            self.assertNotEqual(self.server.complete(**base, **change)["choices"][0]["text"], plain["text"], change)
        least = self.server.complete(prompt="The city", max_tokens=40, temperature=2, seed=3, min_tokens=40)
        self.assertEqual(least["usage"]["completion_tokens"], 40)
        # One candidate is left: hot or not, it is the greedy text.
        self.assertEqual(self.server.complete(**{**base, "temperature": 5, "min_p": 1})["choices"][0]["text"],
                         plain["text"])

    def test_tokenizer_routes(self):
        for prefix in ("", "/v1"):
            status, _, answer = self.server.post(prefix + "/tokenize", {"prompt": "test", "add_special_tokens": False})
            self.assertEqual(status, 200)
            self.assertEqual(answer["count"], len(answer["tokens"]))
            back = self.server.post(prefix + "/detokenize", {"tokens": answer["tokens"]})[2]
            self.assertEqual(back, {"prompt": "test"})
            self.assertEqual(self.server.request("GET", prefix + "/tokenizer_info")[2]["eos_token"], "</s>")
        self.refused(400, "invalid_value", "tokens", self.server.post("/detokenize", {"tokens": [10 ** 9]}))

    def test_refusals(self):
        def completion(**fields):
            return self.server.post("/v1/completions", {"prompt": "x", **fields})
        self.refused(400, "invalid_json", None, self.server.post("/v1/completions", "{"))
        self.refused(400, "invalid_json", None, self.server.post("/v1/completions", "[" * 10 ** 6))
        self.refused(400, "invalid_json", None, self.server.post("/v1/completions", b'{"prompt": "\xff\xfe"}'))
        self.refused(400, "invalid_value", "prompt", completion(prompt=[5, 10 ** 7]))
        self.refused(400, "invalid_value", "prompt", completion(prompt=[[5], [-1]]))
        self.refused(400, "context_length_exceeded", "prompt", completion(prompt=[5] * 513))
        self.refused(400, "unsupported_parameter", "suffix", completion(suffix="y"))
        self.refused(404, "model_not_found", "model", completion(model="gpt-4"))
        # A stream is refused before it begins.
        self.refused(400, "invalid_value", "n", completion(n=99, stream=True))
        self.assertEqual(completion(prompt=[5] * 512)[2]["usage"]["completion_tokens"], 1)
        many = self.server.complete(prompt=[[5 + i % 50, 9] for i in range(1024)], max_tokens=1, temperature=0)
        self.assertEqual(len(many["choices"]), 1024)

    def test_text_is_whole_characters(self):
        _, _, text = self.server.post("/v1/completions", {"prompt": "\U0001f600", "max_tokens": 60, "temperature": 3,
                                                           "seed": 1, "stream": True})
        streamed = "".join(e["choices"][0]["text"] for e in events_of(text))
        whole = self.server.complete(prompt="\U0001f600", max_tokens=60, temperature=3, seed=1)
        self.assertEqual(streamed, whole["choices"][0]["text"])


class Connections(unittest.TestCase):
    def test_clients_that_leave_free_their_pages(self):
        with Server("-q") as server:
            for stream in (True, False):
                files = server.open_files()
                clients = []
                for i in range(20):
                    body = json.dumps({"prompt": f"The city {i}", "max_tokens": 490, "ignore_eos": True,
                                       "stream": stream})
                    client = server.connect()
                    client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                                   f"{body}".encode())
                    clients.append(client)
                self.assertTrue(eventually(lambda: server.metric("requests_running") > 0))
                for client in clients:
                    client.close()
                self.assertTrue(eventually(lambda: server.metric("requests_running") == 0 and
                                           server.metric("requests_waiting") == 0, 1))
                self.assertTrue(eventually(lambda: server.metric("kv_pages_used") == 0, 1))
                self.assertTrue(eventually(lambda: server.open_files() <= files, 2))
            self.assertGreater(server.metric("cancelled_total"), 0)

    def test_pipelined_requests_and_chunked_bodies(self):
        with Server("-q") as server:
            body = '{"prompt": "A", "max_tokens": 2, "temperature": 0}'
            head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
            one = f"{head}Content-Length: {len(body)}\r\n\r\n{body}"
            chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n"
            expecting = f"{head}Expect: 100-continue\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            with server.connect() as client:
                client.sendall((one + one + chunked + expecting).encode())
                received = b"".join(iter(lambda: client.recv(65536), b""))
            self.assertEqual(received.count(b"HTTP/1.1 200 OK"), 4, received)
            self.assertEqual(received.count(b"HTTP/1.1 100 Continue"), 1)

    def test_limits(self):
        with Server("-q") as server:
            def answer_to(text):
                with server.connect() as client:
                    client.sendall(text.encode())
                    return client.recv(65536).split(b"\r\n")[0]
            huge = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
            self.assertIn(b" 413 ", answer_to(huge))
            self.assertIn(b" 414 ", answer_to(f"GET /{'x' * 5000} HTTP/1.1\r\nHost: x\r\n\r\n"))
            self.assertIn(b" 431 ", answer_to("GET / HTTP/1.1\r\n" + f"X-Long: {'x' * 20000}\r\n\r\n"))
            self.assertIn(b" 400 ", answer_to("complete nonsense\r\n\r\n"))

    def test_keys_guard_every_route_but_health(self):
        with Server("--api-key", "secret", "-q") as server:
            self.assertEqual(server.request("GET", "/health")[0], 200)
            for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("POST", "/tokenize"),
                                 ("POST", "/v1/chat/completions"), ("GET", "/metrics"), ("GET", "/tokenizer_info")):
                status, _, answer = server.request(method, path, "{}" if method == "POST" else None)
                self.assertEqual((status, answer["error"]["code"]), (401, "invalid_api_key"), path)
            self.assertEqual(server.request("GET", "/v1/models", headers={"Authorization": "Bearer secret"})[0], 200)

    def test_a_full_queue_answers_429(self):
        with Server("--max-queue", "2", "--max-batch", "1", "-q") as server:
            statuses = []

            def ask():
                statuses.append(server.post("/v1/completions", {"prompt": "x", "max_tokens": 400, "ignore_eos": True}))

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            refused = [s for s in statuses if s[0] == 429]
            self.assertTrue(refused)
            self.assertGreaterEqual(int(refused[0][1]["Retry-After"]), 1)
            self.assertTrue(any(s[0] == 200 for s in statuses))


class Ends(unittest.TestCase):
    def begin_stream(self, server):
        body = json.dumps({"prompt": "The city", "max_tokens": 490, "ignore_eos": True, "stream": True})
        client = server.connect()
        client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        self.assertIn(b"200 OK", client.recv(4096))
        return client

    def test_running_answers_are_finished(self):
        server = Server()
        client = self.begin_stream(server)
        server.process.send_signal(signal.SIGTERM)
        text = b"".join(iter(lambda: client.recv(65536), b""))
        self.assertTrue(text.rstrip().endswith(b"0"), text[-100:])
        self.assertIn(b"data: [DONE]", text)
        self.assertEqual(server.stop(), 0)
        client.close()

    def test_what_takes_too_long_gets_an_error_event(self):
        server = Server("--drain", "0", "--max-batch", "1")
        clients = [self.begin_stream(server)]
        server.process.send_signal(signal.SIGTERM)
        text = b"".join(iter(lambda: clients[0].recv(65536), b""))
        self.assertTrue(b"[DONE]" in text or b'"code":"draining"' in text, text[-300:])
        self.assertEqual(server.stop(), 0)
        with self.assertRaises(OSError):
            server.connect()
        clients[0].close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
