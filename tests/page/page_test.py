#!/usr/bin/env python3
"""Uses the chat page as a person does, in headless Chromium: types, watches the answer come, stops it, changes settings.

    tests/page/page_test.py [--url URL] [--screenshots FOLDER]

Without a URL a stand-in for `tessera serve` (stand_in.py) serves tessera/server/page.html. With the URL of a real server only
what any model does is judged. Exit status 77, "skipped", where there is no Chromium. Needs nothing but Python and Chromium.
"""
import argparse
import base64
import pathlib
import shutil
import sys
import tempfile
import time

from browser import Browser
from stand_in import StandIn

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SIZES = {"light": (1100, 800, "light"), "dark": (1100, 800, "dark"), "narrow": (360, 740, "light"), "narrow-dark": (360, 740, "dark")}


def wait_for(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


class Page:
    """The page in a tab of the browser."""

    def __init__(self, browser, url):
        self.browser = browser
        self.url = url
        browser.open(url)
        wait_for("the model's name", lambda: self.value("document.getElementById('model')?.textContent"))

    def value(self, script):
        return self.browser.evaluate(script)

    def send(self, text):
        self.value("document.getElementById('prompt').focus()")
        self.browser.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r" if kind == "keyDown" else "")

    def last(self, part):
        return self.value(f"[...document.querySelectorAll('.message.assistant')].at(-1)?.querySelector('{part}')?.textContent ?? ''")

    def busy(self):
        return self.value("document.body.classList.contains('busy')")

    def click(self, identity):
        self.value(f"document.getElementById('{identity}').click()")

    def fill(self, identity, text):
        self.value(f"(e => {{ e.value = {text!r}; e.dispatchEvent(new Event('change')); }})(document.getElementById('{identity}'))")

    def screenshots(self, folder, name):
        for look, (width, height, scheme) in SIZES.items():
            self.browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            self.browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
            self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            overflow = self.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{look}: the page is {overflow} pixels wider than the window"
            image = self.browser.call("Page.captureScreenshot", format="png")["data"]
            (folder / f"{name}-{look}.png").write_bytes(base64.b64decode(image))


def streams_an_answer(page):
    page.send("What is a river?")
    wait_for("the first words", lambda: page.last(".body"))
    early = page.last(".body")
    wait_for("the end of the answer", lambda: not page.busy(), 120)
    assert len(page.last(".body")) >= len(early)
    assert "tokens/s" in page.last(".facts") and "first after" in page.last(".facts"), page.last(".facts")
    return early


def checks_with_stand_in(page, server):
    early = streams_an_answer(page)
    assert len(early) < len(page.last(".body")), "the answer came at once and not in pieces"
    assert page.value("document.querySelectorAll('.body pre code').length") == 1
    assert page.value("document.querySelectorAll('.body li').length") == 2
    assert page.value("document.querySelectorAll('.body strong').length") == 1
    assert page.value("document.querySelectorAll('.body img, .body script, .body b').length") == 0, "text became HTML"
    assert page.value("window.broken === undefined"), "text ran as a script"

    page.fill("system", "Be brief.")
    page.fill("temperature", "0.25")
    page.fill("seed", "7")
    page.send("endless")
    wait_for("an answer that goes on", lambda: len(page.last(".body")) > 20)
    page.click("stop")
    wait_for("the stop", lambda: not page.busy())
    assert "stopped" in page.last(".facts"), page.last(".facts")
    wait_for("the server to notice", lambda: server.aborted == 1)
    sent = server.requests[-1]
    assert (sent["temperature"], sent["seed"], sent["stream"]) == (0.25, 7, True), sent
    assert [m["role"] for m in sent["messages"]] == ["system", "user", "assistant", "user"], sent["messages"]

    page.send("refuse")
    wait_for("the error", lambda: page.last(".facts.error"))
    assert page.last(".facts.error") == "the context is full", page.last(".facts.error")
    page.send("break")
    wait_for("the error in the stream", lambda: page.last(".facts.error"))
    page.click("new")
    assert page.value("document.querySelectorAll('.message').length") == 0
    page.send("What is a lake?")
    wait_for("the end of the answer", lambda: page.last(".facts"), 60)
    assert [m["role"] for m in server.requests[-1]["messages"]] == ["system", "user"], "the conversation was not forgotten"


def checks_without_template(browser, server):
    server.chats = False
    page = Page(browser, server.url)
    page.send("Once upon a time")
    wait_for("the end of the text", lambda: page.last(".facts"), 60)
    assert server.requests[-1]["prompt"] == "Once upon a time", server.requests[-1]
    server.chats = True


def checks_key(browser, server):
    server.key = "secret"
    page = Page(browser, server.url)
    assert page.value("document.getElementById('settings').open"), "a missing key does not open the settings"
    page.fill("key", "secret")
    wait_for("the model", lambda: page.value("document.getElementById('model').textContent") == "stand-in")
    server.key = None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", help="a running server")
    parser.add_argument("--screenshots", type=pathlib.Path, help="a folder to put them in")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        print("skipped: there is no Chromium (Debian package chromium)")
        return 77
    server = None if options.url else StandIn(SOURCE / "tessera" / "server" / "page.html")
    url = options.url or server.url
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, Browser(chromium, scratch) as browser:
        folder = options.screenshots or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        page = Page(browser, url)
        page.screenshots(folder, "empty")
        if server:
            checks_with_stand_in(page, server)
        else:
            streams_an_answer(page)
        page.screenshots(folder, "answer")
        page.click("open-settings")
        page.screenshots(folder, "settings")
        if server:
            checks_without_template(browser, server)
            checks_key(browser, server)
        foreign = [request for request in browser.requests if not request.startswith((url, "data:"))]
        assert not foreign, f"requests to elsewhere: {foreign}"
        assert not browser.exceptions, browser.exceptions
    print("the chat page works")
    return 0


if __name__ == "__main__":
    sys.exit(main())
