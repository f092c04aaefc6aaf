"""A real browser on a leash: Chromium over the pipe of its DevTools protocol, without a further library."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
#: Longest wait for anything; a page that has not got there by then is broken [s].
PATIENCE = 60.0


class Browser:
    """A headless browser with one page."""

    def __init__(self, profile: Path) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # The browser reads commands from descriptor 3 and writes to 4.
        pipes = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (theirs_in, theirs_out)]
        start = (
            "import os, sys; [os.dup2(int(sys.argv[i]), i + 2) for i in (1, 2)]; os.execv(sys.argv[3], sys.argv[3:])"
        )
        command = [
            sys.executable, "-c", start, *map(str, pipes), str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, pass_fds=pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for descriptor in (theirs_in, theirs_out, *pipes):
            os.close(descriptor)
        self.incoming, self.outgoing, self.buffer, self.count = ours_in, ours_out, b"", 0
        self.events: list[dict[str, Any]] = []
        self.session = None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(OSError, AssertionError):
            self.session = None
            self.send("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self.incoming)
        os.close(self.outgoing)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; what happens meanwhile is kept in `events`."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.outgoing, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            answer = self._next(end)
            if answer.get("id") == self.count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.incoming], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self.incoming, 1 << 20)
            assert more, "the browser has gone"
            self.buffer += more
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    # --- what a reader does --------------------------------------------------------------------------------------

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: str, why: str = "") -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + PATIENCE
        # What is not there yet is not true yet; an element is, and cannot be sent.
        tried = (
            f"(() => {{ try {{ const v = {condition}; return v instanceof Node || v; }} catch {{ return false; }} }})()"
        )
        while time.monotonic() < end:
            value = self.run(tried)
            if value:
                return value
            time.sleep(0.03)
        raise AssertionError(
            why or f"never true: {condition}; the page says {self.run('document.body.innerText')[:600]}"
        )

    def open(self, url: str, width: int = 1280, height: int = 900, *, dark: bool = False, phone: bool = False) -> None:
        """Open a page on a screen."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url="about:blank")
        self.events.clear()
        self.send("Page.navigate", url=url)

    def press(self, key: str, code: int = 0) -> None:
        """Press a key."""
        text = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def type(self, selector: str, text: str) -> None:
        """Write a text into a field in place of what is there."""
        self.run(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        self.press("Backspace", 8)
        if text:
            self.send("Input.insertText", text=text)

    def click(self, selector: str, at: tuple[float, float] = (0.5, 0.5), *, noticed: str = "") -> None:
        """Click on an element, once what it shows under the pointer is there: figures look where it is now and then."""
        end = time.monotonic() + PATIENCE
        for step in itertools.count():
            place = self.run(
                f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); "
                f"return [r.left + r.width * {at[0]}, r.top + r.height * {at[1]}]; }})"
                f"(document.querySelector({json.dumps(selector)}))"
            )
            spot = {"x": place[0] - step % 2, "y": place[1]}  # a pointer that rests is not looked at again
            self.send("Input.dispatchMouseEvent", type="mouseMoved", **spot)
            time.sleep(0.05)
            if not noticed or self.run(f"document.querySelector({json.dumps(noticed)}) !== null"):
                break
            assert time.monotonic() < end, f"{noticed} never shows under the pointer at {at} of {selector}"
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **spot)

    def upload(self, selector: str, file: Path) -> None:
        """Give a file to an upload."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=f"{selector} input[type=file]")["nodeId"]
        self.send("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """Save what the page looks like."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def requests(self) -> list[str]:
        """Return the addresses that the page has asked for since it was opened."""
        self.run("1")  # takes in what has happened
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent]

    def errors(self) -> list[str]:
        """Return what went wrong in the page's scripts."""
        self.run("1")
        thrown = [e["params"]["exceptionDetails"] for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        logged = [e["params"] for e in self.events if e.get("method") == "Runtime.consoleAPICalled"]
        texts = [str(each.get("args")) for each in logged if each["type"] == "error"]
        return [str(each.get("exception", each)) for each in thrown] + texts
