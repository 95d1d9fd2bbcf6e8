"""A real browser without a window: Chromium by chromedriver, over the few calls of WebDriver that tests need.

Selenium would bring a manager of drivers that asks the network; the protocol itself is JSON over HTTP.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)  # fmt: skip
TAB, ENTER, ESCAPE, CONTROL, RELEASE = "\ue004", "\ue007", "\ue00c", "\ue009", "\ue000"
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_REFUSAL = re.compile(r"Failed to load resource: .* status of 4[0-9][0-9] ")
_STARTED = re.compile(r"started successfully on port (\d+)")
# What the page's policy refuses, noted before any of its scripts run.
_WATCH = """
window.refused = [];
addEventListener("securitypolicyviolation", (event) => refused.push(
  `${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


class Browser:
    """A page that is open; elements are named by selectors of CSS."""

    def __init__(self, http: httpx.Client, session: str) -> None:
        self._http = http
        self._session = f"/session/{session}"
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One command of WebDriver."""
        sent = {} if body is None and method == "POST" else body
        answer = self._http.request(method, self._session + path, json=sent)
        value = answer.json()["value"]
        if answer.is_error:
            raise LookupError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    def cdp(self, command: str, **params: Any) -> Any:
        """One command of Chromium's own protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def go(self, url: str) -> None:
        """Open an address."""
        self.call("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        """The present address."""
        return str(self.call("GET", "/url"))

    def js(self, body: str, *given: Any) -> Any:
        """What a function body returns; its arguments are `arguments[0]` and so on."""
        return self.call("POST", "/execute/sync", {"script": body, "args": list(given)})

    def soon(self, body: str, *given: Any) -> Any:
        """What a function body gives to its last argument, when that is called."""
        return self.call("POST", "/execute/async", {"script": body, "args": list(given)})

    def element(self, selector: str) -> str:
        """The first of a selector; `LookupError` where there is none."""
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return f"/element/{found[_ELEMENT]}"

    def has(self, selector: str) -> bool:
        """Whether there is one."""
        return bool(self.js("return document.querySelector(arguments[0]) !== null", selector))

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def click(self, selector: str) -> None:
        """Click it, where it is seen."""
        self.call("POST", self.element(selector) + "/click")

    def fill(self, selector: str, text: str) -> None:
        """Put a text into a field, instead of what is there."""
        self.js("const e = document.querySelector(arguments[0]); e.focus(); e.select()", selector)
        self.call("POST", self.element(selector) + "/value", {"text": text})
        held = str(self.js("return document.querySelector(arguments[0]).value", selector))
        if held != text:
            raise LookupError(f"{selector} holds {held!r} and not {text!r}")

    def choose(self, selector: str, value: str | int) -> None:
        """Set a slider or a list to a value, as a hand would."""
        script = """const e = document.querySelector(arguments[0]); e.value = arguments[1];
            for (const kind of ["input", "change"]) e.dispatchEvent(new Event(kind, {bubbles: true}));"""
        self.js(script, selector, value)

    def press(self, *keys: str) -> None:
        """Press keys, where the focus is."""
        focused = self.call("GET", "/element/active")
        self.call("POST", f"/element/{focused[_ELEMENT]}/value", {"text": "".join(keys)})

    def focus(self) -> str:
        """What has the focus, as its name, text or label."""
        said = "const e = document.activeElement;"
        return str(self.js(said + "return e.name || e.getAttribute('aria-label') || e.textContent.trim()"))

    def tab_to(self, name: str, most: int = 60) -> None:
        """Press Tab until that has the focus; `LookupError` where it never does."""
        for _ in range(most):
            self.press(TAB)
            if self.focus() == name:
                return
        raise LookupError(f"the focus never came to {name!r}, and is on {self.focus()!r}")

    def until(self, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
        """What `condition` returns as soon as that is true; `TimeoutError` where it never is."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds:g} s; the page says {self.text('main')[:600]!r}")
            time.sleep(0.05)
        return found

    def see(self, selector: str, words: str = "", seconds: float = 20.0) -> str:
        """What an element says, once it is there and says these words."""

        def said() -> str:
            text = self.text(selector) if self.has(selector) else ""
            return (text or " ") if self.has(selector) and words in text else ""

        return str(self.until(said, seconds)).strip()

    def size(self, width: int, height: int, *, ratio: float = 1.0) -> None:
        """Have the window that wide and high."""
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=ratio, mobile=width < 500,
        )  # fmt: skip

    def prefer(self, theme: str) -> None:
        """Have the system prefer "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.cdp("Emulation.setEmulatedMedia", features=features)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a picture of the page, the whole of it or what the window shows."""
        found = self.cdp("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    @property
    def refused(self) -> list[str]:
        """What the policy of the page has refused since it was loaded."""
        return list(self.js("return window.refused"))

    def complaints(self) -> list[str]:
        """Errors that the console has since they were last asked for; refusals by a server are none."""
        found = self.call("POST", "/se/log", {"type": "browser"})
        messages = [each["message"] for each in found if each["level"] == "SEVERE"]
        return [message for message in messages if not _REFUSAL.search(message)]

    def hosts(self) -> set[str]:
        """The hosts that were asked for anything since they were last asked for."""
        found = self.call("POST", "/se/log", {"type": "performance"})
        messages = (json.loads(each["message"])["message"] for each in found)
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).netloc for url in urls}


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with an empty profile."""
    with tempfile.TemporaryDirectory() as profile, _driver() as http:
        options = {
            "binary": CHROMIUM,
            "args": [*FLAGS, f"--user-data-dir={profile}"],
            "perfLoggingPrefs": {"enableNetwork": True},
        }
        capabilities = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        answer = http.post("/session", json={"capabilities": {"alwaysMatch": capabilities}})
        value = answer.json()["value"]
        if answer.is_error:
            raise RuntimeError(value["message"])
        session = value["sessionId"]
        try:
            yield Browser(http, session)
        finally:
            http.delete(f"/session/{session}")


@contextmanager
def _driver() -> Iterator[httpx.Client]:
    process = subprocess.Popen(
        [str(CHROMEDRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{_port_of(process)}", timeout=60, trust_env=False
        ) as http:
            yield http
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _port_of(process: subprocess.Popen[str]) -> int:
    """Where it listens, as it says itself."""
    for line in process.stdout or ():
        if found := _STARTED.search(line):
            return int(found[1])
    raise RuntimeError("chromedriver has ended")
