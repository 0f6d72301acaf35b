"""Drives an installed Chromium through its debugging pipe: real key presses and clicks, no network, no further package."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_TIMEOUT = 60


class Chromium:
    """A page in a headless Chromium with a profile of its own; downloads go to `downloads`. Requests to any place but the
    server `origin` (such as `"http://127.0.0.1:7860"`) are failures."""

    def __init__(self, profile: Path, downloads: Path, origin: str | None = None):
        self.failures: list[str] = []
        self._allowed = ("file:", "data:", "blob:", *([f"{origin}/"] if origin else []))
        self._ids = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The protocol's fixed descriptors are 3 (commands) and 4 (replies).
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", command, EXECUTABLE, *arguments, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its reply; errors of the page that come meanwhile go to `failures`."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._receive()
            if reply.get("id") == number:
                assert "error" not in reply, reply
                return reply["result"]
            self._note(reply)

    def open(self, path: Path) -> None:
        """Loads a file and waits until its script has run."""
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def visit(self, url: str, ready: str) -> None:
        """Loads a page of the server, and waits until the JavaScript expression `ready` is true."""
        self.call("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.protocol === 'http:' && ({ready})")

    def upload(self, selector: str, *paths: Path) -> None:
        """Chooses files in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        field = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=field, files=list(map(str, paths)))

    def click(self, selector: str) -> None:
        """Clicks into the middle of an element, once it has stopped to move: a page that is still laid out would be missed."""
        element = f"document.querySelector({json.dumps(selector)})"
        middle = f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({element}.getBoundingClientRect())"
        end, before, box = time.monotonic() + _TIMEOUT, None, None
        while box is None or box != before:
            assert time.monotonic() < end, f"it does not stand still: {selector}"
            self.value(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
            before, box = box, self.value(middle)
            time.sleep(0.1)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression (the debugger is not bound by the page's policy)."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + _TIMEOUT
        while not self.value(f"!!({expression})"):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Presses a key."""
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **fields)
        self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def type(self, text: str) -> None:
        """Types into the focused field."""
        self.call("Input.insertText", text=text)

    def viewport(self, width: int, height: int, dark: bool = False) -> None:
        """Sets the size of the page in CSS pixels, and the colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Ends the browser."""
        self.call("Browser.close")
        self._process.wait(timeout=_TIMEOUT)
        os.close(self._write)
        os.close(self._read)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], _TIMEOUT)[0], "Chromium does not answer"
            data = os.read(self._read, 1 << 16)
            assert data, "Chromium has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded":
            self.failures.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.failures.append(str(parameters["exceptionDetails"]))
        elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(self._allowed):
            self.failures.append(f"request to {parameters['request']['url']}")
