"""Pages in headless Chromium, driven by its own DevTools protocol over a pipe: no driver, no port.

with Browser() as browser:
    page = browser.open(path, width=390)
    assert page.console == [] and page.evaluate("document.title") == "..."
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        if (found := shutil.which(name))
    ),
    None,
)
MISSING = "Chromium is not installed (Debian: apt-get install chromium)"
TIMEOUT_S = 60.0
HEIGHT = 844
# What the protocol's pipe is in the child: it reads commands from 3 and writes to 4.
_READS, _WRITES = 3, 4
_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--mute-audio",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
)


class Page:
    """A loaded page.

    Attributes:
        width: CSS pixels.
        console: what it wrote to the console and what went wrong, as text.
        requests: every address it asked for, itself first.
    """

    def __init__(self, browser: Browser, session: str, width: int) -> None:
        self._browser, self._session, self.width = browser, session, width
        self.console: list[str] = []
        self.requests: list[str] = []
        self.is_loaded = False

    def command(self, method: str, **values: Any) -> dict[str, Any]:
        """Return the answer to a command of the DevTools protocol."""
        return self._browser.command(method, values, self._session)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression (a promise is waited for)."""
        answer = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def screenshot(self, path: Path, top: float = 0, height: float = HEIGHT) -> None:
        """Write a PNG file of the page from `top`, at most 16,000 px high."""
        clip = {"x": 0, "y": top, "width": self.width, "height": min(height, 16_000), "scale": 1}
        made = self.command("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(made["data"]))

    def pdf(self, path: Path) -> None:
        """Write the page as it prints, in the sizes that its style sheet asks for."""
        made = self.command("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(made["data"]))

    def take(self, method: str, values: dict[str, Any]) -> None:
        """Note an event."""
        if method == "Page.loadEventFired":
            self.is_loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            said = [str(one.get("value", one.get("description"))) for one in values["args"]]
            self.console.append(f"{values['type']}: {' '.join(said)}")
        elif method == "Runtime.exceptionThrown":
            self.console.append(f"exception: {values['exceptionDetails']}")
        elif method == "Log.entryAdded":
            self.console.append(f"{values['entry']['level']}: {values['entry']['text']}")


class Browser:
    """Headless Chromium; ends with its `with` block."""

    def __init__(self) -> None:
        if CHROMIUM is None:
            raise RuntimeError(MISSING)
        self._profile = tempfile.mkdtemp(prefix="lvm-ai-chromium-")
        self._number, self._rest = 0, b""
        self._pages: dict[str, Page] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._pid, self._to, self._from = self._start(CHROMIUM)

    def _start(self, program: str) -> tuple[int, int, int]:
        # Above 9, or moving one onto 3 could overwrite the other.
        ours = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in _pipes()]
        its_input, to, its_end_of_output, its_output = ours[0], ours[1], ours[2], ours[3]
        sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
        words = [program, *_FLAGS, *sandbox, f"--user-data-dir={self._profile}"]
        pid = os.posix_spawn(
            program,
            words,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, its_input, _READS),
                (os.POSIX_SPAWN_DUP2, its_output, _WRITES),
            ],
        )
        os.close(its_input)
        os.close(its_output)
        return pid, to, its_end_of_output

    def open(self, path: Path, width: int) -> Page:
        """Return a file as a page `width` CSS pixels wide, when it has loaded."""
        target = self.command("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.command("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = Page(self, attached["sessionId"], width)
        self._pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.command(f"{domain}.enable")
        page.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=HEIGHT, deviceScaleFactor=1, mobile=width < 600
        )
        page.is_loaded = False
        page.command("Page.navigate", url=path.resolve().as_uri())
        until = time.monotonic() + TIMEOUT_S
        while not page.is_loaded:
            self._receive(until)
        return page

    def command(self, method: str, values: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """Return the answer to a command; events that come meanwhile go to their pages."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": values or {}}
        if session is not None:
            message["sessionId"] = session
        self._send(json.dumps(message).encode() + b"\0")
        until = time.monotonic() + TIMEOUT_S
        while number not in self._answers:
            self._receive(until)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _send(self, message: bytes) -> None:
        while message:
            message = message[os.write(self._to, message) :]

    def _receive(self, until: float) -> None:
        ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise TimeoutError(f"Chromium did not answer in {TIMEOUT_S:.0f} s")
        got = os.read(self._from, 1 << 20)
        if not got:
            raise RuntimeError("Chromium has ended")
        *messages, self._rest = (self._rest + got).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].take(message["method"], message["params"])

    def close(self) -> None:
        """End Chromium and remove its profile."""
        try:
            self.command("Browser.close")
        except (RuntimeError, TimeoutError, BrokenPipeError):
            os.kill(self._pid, 9)
        until = time.monotonic() + TIMEOUT_S
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                os.kill(self._pid, 9)
            time.sleep(0.05)
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pipes() -> tuple[int, int, int, int]:
    its_input, to = os.pipe()
    output, its_output = os.pipe()
    return its_input, to, output, its_output
