"""A real Chromium, spoken to over a pipe in its own protocol: no driver, no port, nothing of the network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Browser:
    """One tab; what it asked for and what stood in its console is kept."""

    out: int  # where commands go
    back: int  # where replies and events come from
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    loaded: int = 0
    session: str = ""
    _asked: int = 0
    _left: bytes = b""

    def open(self, page: Path) -> None:
        before = self.loaded
        self.tell("Page.navigate", url=page.as_uri())
        while self.loaded == before:
            self._hear(self._message())

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; AssertionError where it throws."""
        told = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def press(self, key: str) -> None:
        """One key, as a person's: a name such as ArrowDown, or a letter."""
        codes = {"ArrowDown": 40, "ArrowUp": 38, "ArrowRight": 39, "Enter": 13, "Escape": 27, "Tab": 9, "End": 35}
        told: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        text = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
        self.tell("Input.dispatchKeyEvent", type="keyDown", **told, **text)
        self.tell("Input.dispatchKeyEvent", type="keyUp", **told)

    def looks(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, *, whole: bool = False) -> bytes:
        told = self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(told["data"])

    def printed(self) -> bytes:
        told = self.tell("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(told["data"])

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result, once it is there; events that come before it are kept."""
        self._asked += 1
        told = {"id": self._asked, "method": method, "params": parameters}
        if self.session:
            told["sessionId"] = self.session
        data = json.dumps(told).encode() + b"\0"
        while data:
            data = data[os.write(self.out, data) :]
        while (message := self._message()).get("id") != self._asked:
            self._hear(message)
        assert "error" not in message, message["error"]
        return dict(message["result"])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            more = os.read(self.back, 1 << 16)
            assert more, "the browser has ended"
            self._left += more
        message, self._left = self._left.split(b"\0", 1)
        return dict(json.loads(message))

    def _hear(self, message: dict[str, Any]) -> None:
        match message.get("method"):
            case "Page.loadEventFired":
                self.loaded += 1
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.console.append(json.dumps(message["params"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser whose profile lies in a folder; it has ended when this has."""
    assert CHROMIUM
    their_in, out = os.pipe()
    back, their_out = os.pipe()
    command = [
        "bash", "-c",
        f'exec "$@" 3<&{their_in} 4>&{their_out}',
        "sh", CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
        "--remote-debugging-pipe", "--disable-background-networking", "--disable-component-update", "--no-first-run",
        f"--user-data-dir={folder}", "about:blank",
    ]  # fmt: skip
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, pass_fds=(their_in, their_out), stderr=log, stdout=log)
    os.close(their_in)
    os.close(their_out)
    try:
        yield _tab(Browser(out, back))
    finally:
        os.close(out)  # it ends when nobody speaks to it any more
        os.close(back)
        process.terminate()
        process.wait()


def _tab(new: Browser) -> Browser:
    target = new.tell("Target.createTarget", url="about:blank")["targetId"]
    new.session = new.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log"):
        new.tell(f"{domain}.enable")
    return new
