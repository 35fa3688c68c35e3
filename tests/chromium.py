"""A real Chromium that tests drive: pages opened, clicked and asked, over the pipe of its debugging protocol."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests import servers
from tests.waiting import eventually

_ANSWER: Final = 30.0
_LEFT: Final = "Inspected target navigated or closed"


class Tab:
    """One page of the browser, and what it complained of."""

    def __init__(self, to: int, back: int) -> None:
        self._to = to
        self._back = back
        self._number = 0
        self._buffer = b""
        self._answers: dict[int, Any] = {}
        self._session: str | None = None
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> Any:
        """Return what the browser answers."""
        self._number += 1
        number = self._number
        sent: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            sent["sessionId"] = self._session
        os.write(self._to, json.dumps(sent).encode() + b"\0")
        deadline = time.monotonic() + _ANSWER
        while number not in self._answers:
            assert time.monotonic() < deadline, f"no answer to {method}"
            self._read(0.2)
        answer = self._answers.pop(number)
        if answer.get("error", {}).get("message") == _LEFT:
            return {"result": {}}  # whoever waits asks again, on the page that comes
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def open(self, url: str) -> None:
        """Open a page, and wait until it is there with its scripts."""
        self.send("Page.navigate", url=url)
        eventually(
            lambda: (
                self.run("document.readyState") == "complete"
                and self.run("location.href") != "about:blank"
            )
        )

    def run(self, script: str) -> Any:
        """Return the value of a script; None if the page was left while it ran."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self) -> str:
        """Return what a person reads."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **extra,
            )

    def size(self, width: int, height: int) -> None:
        """Be a screen of this size."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=True,
        )

    def picture(self, path: Path) -> None:
        """Write what a person sees."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _read(self, seconds: float) -> None:
        if not select.select([self._back], [], [], seconds)[0]:
            return
        self._buffer += os.read(self._back, 1 << 20)
        *messages, self._buffer = self._buffer.split(b"\0")
        for message in messages:
            self._take(json.loads(message))

    def _take(self, message: Any) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(
                    f"{params['entry']['text']} {params['entry'].get('url', '')}"
                )


@contextmanager
def chromium(profile: Path) -> Iterator[Tab]:
    """Start a browser, end it afterwards."""
    program = shutil.which("chromium") or servers.absent("chromium")
    (read_theirs, to), (back, write_theirs) = os.pipe(), os.pipe()
    # The protocol is spoken on its descriptors 3 and 4.
    script = f'exec "$0" "$@" 3<&{read_theirs} 4>&{write_theirs}'
    browser = subprocess.Popen(
        ["/bin/bash", "-c", script, program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={profile}"],
        pass_fds=(read_theirs, write_theirs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(read_theirs)
    os.close(write_theirs)
    try:
        yield Tab(to, back)
    finally:
        browser.kill()
        browser.wait()
        os.close(to)
        os.close(back)
