"""Chromium without a window, steered by the DevTools protocol over a pair of pipes."""
import json
import os
import select
import subprocess
import time


class Browser:
    """One tab. `requests` holds every URL that pages asked for, `exceptions` what their scripts threw."""

    def __init__(self, chromium, profile):
        to_browser, self.send_end = os.pipe()
        self.receive_end, from_browser = os.pipe()
        command = f"exec {chromium} --headless=new --no-sandbox --disable-gpu --no-first-run --user-data-dir={profile} " \
                  f"--disable-background-networking --remote-debugging-pipe about:blank 3<&{to_browser} 4>&{from_browser}"
        self.process = subprocess.Popen(["bash", "-c", command], pass_fds=(to_browser, from_browser),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer = b""
        self.next_id = 0
        self.session = None
        self.requests, self.exceptions = [], []

    def __enter__(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(domain + ".enable")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def open(self, url):
        self.call("Page.navigate", url=url)

    def evaluate(self, script):
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def call(self, method, **parameters):
        self.next_id += 1
        message = {"id": self.next_id, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.send_end, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.next_id:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event):
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])
        if event.get("method") == "Runtime.exceptionThrown":
            self.exceptions.append(event["params"]["exceptionDetails"])

    def _receive(self, seconds=120):
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            if not select.select([self.receive_end], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"Chromium does not answer within {seconds} s")
            received = os.read(self.receive_end, 1 << 16)
            if not received:
                raise AssertionError("Chromium has ended")
            self.buffer += received
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)
