"""Options of `tessera serve`, and `tessera chat` as its client."""

import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

from served import MODEL, PROGRAM, THREADS, Api, Server, eventually, free_port

SOURCE = pathlib.Path(__file__).resolve().parents[2]


class Options(unittest.TestCase):
    def test_version_names_the_commit(self):
        head = subprocess.run(["git", "-C", SOURCE, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        with Server("-q") as server:
            answer = server.request("GET", "/version")[2]
        self.assertEqual(set(answer), {"version", "commit", "kernel", "isa"})
        # The program may have been built before the last commit, but not without any.
        self.assertRegex(answer["commit"], "^[0-9a-f]{12}$" if head.returncode == 0 else "^unknown$")

    def test_per_peer(self):
        with Server("-q", "--per-peer", "3") as server:
            clients = [server.connect() for _ in range(3)]
            self.assertTrue(eventually(lambda: server.open_files() > 3))
            status, headers, answer = server.request("GET", "/health")
            self.assertEqual((status, answer["error"]["code"]), (503, "connections"))
            self.assertIn("Retry-After", headers)
            clients.pop().close()
            self.assertTrue(eventually(lambda: server.request("GET", "/health")[0] == 200))
            for client in clients:
                client.close()

    def test_metrics_in_vllms_names(self):
        def samples(server):
            lines = server.request("GET", "/metrics")[2].splitlines()
            pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
            return {name.split("{")[0]: float(number) for name, number in pairs}

        with Server("-q", "--metrics-prefix", "vllm:") as server:
            server.complete(prompt="The city", max_tokens=3, temperature=0)
            self.assertTrue(eventually(lambda: samples(server)["vllm:kv_cache_usage_perc"] == 0))
            value = samples(server)
        self.assertEqual(value["vllm:num_requests_running"], 0)
        self.assertEqual(value["vllm:generation_tokens_total"], 3)
        self.assertEqual(value["vllm:time_to_first_token_seconds_count"], 1)

    def test_listen_early(self):
        with tempfile.TemporaryDirectory() as folder:
            # Who opens the tokenizer waits until the lease on it is given up, so the model does not finish to load.
            model = pathlib.Path(folder) / "model"
            model.mkdir()
            for file in pathlib.Path(MODEL).iterdir():
                if file.name != "tokenizer.json":
                    (model / file.name).symlink_to(file.resolve())
            shutil.copy(pathlib.Path(MODEL) / "tokenizer.json", model)
            signal.signal(signal.SIGIO, signal.SIG_IGN)  # somebody wants to open it
            leased = os.open(model / "tokenizer.json", os.O_RDWR)
            try:
                fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError as error:
                self.skipTest(f"no leases in {folder}: {error}")
            api = Api(free_port())
            process = subprocess.Popen([PROGRAM, "-q", "--threads", THREADS, "serve", str(model), "--listen-early",
                                        "--port", str(api.port)], stderr=subprocess.PIPE, text=True)
            try:
                self.assertTrue(eventually(api.answers, 20))
                self.assertEqual(api.request("GET", "/health")[::2], (503, {"status": "loading"}))
                status, headers, answer = api.post("/v1/completions", {"prompt": "x"})
                self.assertEqual((status, answer["error"]["code"]), (503, "loading"))
                self.assertIn("Retry-After", headers)
                fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                self.assertTrue(eventually(lambda: api.request("GET", "/health")[0] == 200, 20))
            finally:
                process.kill()
                process.communicate()
                os.close(leased)
        with Server("-q", "--listen-early") as server:
            self.assertEqual(server.complete(prompt="The city", max_tokens=2)["usage"]["completion_tokens"], 2)

    def test_selftest(self):
        answer = subprocess.run([PROGRAM, "--threads", THREADS, "serve", MODEL, "--port", "0", "--selftest"],
                                capture_output=True, text=True, timeout=60)
        self.assertEqual(answer.returncode, 2)  # the bundled model is a float one: nothing to test
        self.assertEqual(answer.stderr.count("\n"), 1, answer.stderr)


class Chat(unittest.TestCase):
    def test_chat_with_a_server(self):
        with tempfile.TemporaryDirectory() as folder:
            template = pathlib.Path(folder) / "plain.jinja"
            template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
            with Server("-q", "--chat-template", str(template), "--api-key", "secret") as server:
                def chat(lines, key="secret"):
                    return subprocess.run([PROGRAM, "-q", "chat", server.url, "--temperature", "0", "--max-tokens", "8"],
                                          input=lines, capture_output=True, text=True, timeout=60,
                                          env={**os.environ, "TESSERA_API_KEY": key})
                answer = server.post("/v1/chat/completions", {
                    "messages": [{"role": "user", "content": "The city"}], "temperature": 0, "max_tokens": 8},
                    Authorization="Bearer secret")[2]["choices"][0]["message"]["content"]
                self.assertEqual(chat("The city\n").stdout, answer + "\n")
                self.assertEqual(chat("The city\n/reset\nThe city\n").stdout, (answer + "\n") * 2)
                refused = chat("The city\n", key="wrong")
                self.assertEqual((refused.returncode, refused.stdout), (2, ""))
                self.assertIn("API key", refused.stderr)
            gone = subprocess.run([PROGRAM, "-q", "chat", server.url], input="x\n", capture_output=True, text=True, timeout=60)
            self.assertEqual(gone.returncode, 2)
            self.assertIn(str(server.port), gone.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
