"""Headless Chromium, driven as a person would: real keys, clicks, downloads, print.

It is spoken to by the DevTools protocol over a pipe, so nothing needs to be installed besides
Chromium itself.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["CHROMIUM", "Browser", "opened"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

PATIENCE = 60.0
"""Seconds for whatever the browser is asked to do."""

CODES = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowUp": 38,
         "ArrowRight": 39, "ArrowDown": 40}  # fmt: skip

# Chromium reads from 3 and writes to 4; both may be taken by something else before.
LAUNCH = """
import os, sys
reads, writes, *command = sys.argv[1:]
os.dup2(int(reads), 100), os.dup2(int(writes), 101)
os.dup2(100, 3), os.dup2(101, 4)
os.close(100), os.close(101)
os.execv(command[0], command)
"""


class ProtocolError(AssertionError):
    """Chromium does not do what it was asked."""


class Browser:
    """The tab that is looked at. `downloads` is the folder for what a page lets a person save."""

    def __init__(self, reads: int, writes: int, downloads: Path) -> None:
        self.downloads = downloads
        self.said: list[str] = []  # on the console, and errors of scripts
        self._writes = writes
        self._reads = reads
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(reads, selectors.EVENT_READ)
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.new_tab()
        self.ask(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads.resolve())
        )

    def new_tab(self) -> str | None:
        """Turn to a new tab; return the one before, which stays open."""
        before, self._session = self._session, None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        return before

    def turn_to(self, tab: str | None) -> str | None:
        """Turn to another tab, as `new_tab` returned it; return the one before."""
        before, self._session = self._session, tab
        self.ask("Page.bringToFront")
        return before

    def close_tab(self) -> None:
        """Close the tab; turn to another after that."""
        self.ask("Page.close")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith("Browser."):
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                if "error" in told:
                    raise ProtocolError(f"{method}: {told['error']}")
                return told["result"]

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            assert self._waiting.select(max(0.0, end - time.monotonic())), "Chromium is silent"
            chunk = os.read(self._reads, 2**20)
            assert chunk, "Chromium has ended"
            self._rest += chunk
        first, self._rest = self._rest.split(b"\0", 1)
        told = json.loads(first)
        if told.get("method") == "Runtime.exceptionThrown":
            self.said.append(json.dumps(told["params"]["exceptionDetails"]))
        elif told.get("method") == "Log.entryAdded":
            self.said.append(told["params"]["entry"]["text"])
        return told

    def open(self, address: str) -> None:
        """Open an address and wait until it is loaded."""
        self.ask("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def reload(self) -> None:
        """Load the page again, and wait until that is done."""
        self.run("window.before = true")
        self.ask("Page.reload")
        self.until("!window.before && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page; promises are waited for."""
        told = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, wanted: str | Callable[[], Any]) -> Any:
        """Wait until an expression of the page, or a function, is true; return its value."""
        end = time.monotonic() + PATIENCE
        while True:
            found = self._holds(wanted) if isinstance(wanted, str) else wanted()
            if found:
                return found
            assert time.monotonic() < end, f"never: {wanted}; the page said {self.said}"
            time.sleep(0.05)

    def _holds(self, wanted: str) -> bool:
        try:
            return self.run(f"Boolean({wanted})")
        except ProtocolError:  # the page is on its way to another
            return False

    def press(self, *keys: str) -> None:
        """Press keys one after the other; ``Shift+Tab`` for two at once."""
        for key in keys:
            shift, _, key = key.rpartition("+")
            text = key if len(key) == 1 else "\r" if key == "Enter" else ""
            code = CODES.get(key, ord(key[0].upper()))
            how = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            self.ask("Input.dispatchKeyEvent", **down, **how)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **how)

    def click(self, selector: str) -> None:
        """Click the middle of the first element that is so selected."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def look(self, file: Path, *, whole: bool = False) -> Path:
        """Save what is seen, or the whole page, as a PNG."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))
        return file

    def size(self, width: int, height: int) -> None:
        """Give the window a size in pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def media(self, kind: str = "", scheme: str = "light") -> None:
        """Show the page as on a screen or on paper, by a light or a dark scheme."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.ask("Emulation.setEmulatedMedia", media=kind, features=[feature])


@contextmanager
def opened(folder: Path) -> Iterator[Browser]:
    """Yield a browser with a fresh profile in `folder`; skip where there is no Chromium."""
    if not CHROMIUM:
        assert "CI" not in os.environ, "CI needs chromium on PATH"
        pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = [
        sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), CHROMIUM,
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
    ]  # fmt: skip
    with open(folder / "chromium.txt", "wb") as log:
        process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=log, stderr=log
        )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_in, ours_out, downloads)
    finally:
        os.close(ours_out)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        os.close(ours_in)
