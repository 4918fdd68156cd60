"""A headless Chromium spoken to over a pipe: no driver, no port, no network."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from print_pdf import BROWSERS

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-default-browser-check",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-pipe",
)  # fmt: skip
# The browser reads commands from file 3 and answers on 4.
REDIRECTED = "import os, sys; [os.dup2(int(sys.argv[i]), i + 2) for i in (1, 2)]; os.execv(sys.argv[3], sys.argv[3:])"
KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35, "Tab": 9, " ": 32,
    "Enter": 13, "s": 83,
}  # fmt: skip
SHIFT = 8
AXE = Path(__file__).parents[1] / ".venv" / "axe-core" / "axe.min.js"
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
PATIENCE = 60  # seconds to wait for an answer


def has_loaded(event: dict[str, Any], loader: str) -> bool:
    """Whether this is the load event of the document that `loader` brings, not of the one before it."""
    about = event.get("params", {})
    return event["method"] == "Page.lifecycleEvent" and (about["loaderId"], about["name"]) == (loader, "load")


class Browser:
    """One page; a context manager that ends the process it started."""

    def __init__(self, profile: Path) -> None:
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        start = [sys.executable, "-c", REDIRECTED, str(commands), str(answers), str(CHROMIUM), *FLAGS]
        self._process = subprocess.Popen(
            [*start, f"--user-data-dir={profile}", "--window-size=1280,900"],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._last, self._session, self._rest = 0, None, b""
        self.events: list[dict[str, Any]] = []  # what the page did meanwhile
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self.size(1280, 900)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], PATIENCE)
            part = os.read(self._from, 1 << 16) if ready else b""
            if not part:
                raise ConnectionError(f"the browser {'has ended' if ready else f'is silent since {PATIENCE} s'}")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the DevTools protocol."""
        self._last += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(
            self._to, json.dumps({"id": self._last, "method": method, "params": parameters} | session).encode() + b"\0"
        )
        while (answer := self._message()).get("id") != self._last:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, page: Path | str) -> None:
        """Load a file or an address, and wait until its deferred scripts have run."""
        self.events.clear()
        address = page.as_uri() if isinstance(page, Path) else page
        loader = self.call("Page.navigate", url=address).get("loaderId")  # none where only the fragment is another
        while loader and not any(has_loaded(event, loader) for event in self.events):
            self.events.append(self._message())
        if loader:  # the page before may have asked for something while it was left
            self.events = [event for event in self.events if event.get("params", {}).get("loaderId", loader) == loader]

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", script))
        return answer["result"].get("value")

    def wait(self, method: str, **about: Any) -> None:
        """Wait for an event."""
        while not any(e["method"] == method and about.items() <= e["params"].items() for e in self.events):
            self.events.append(self._message())
        self.events.clear()

    def violations(self) -> list[str]:
        """What axe-core finds against levels A and AA: the rule, and where."""
        if not self.run("'axe' in window"):
            self.run(AXE.read_text(encoding="utf-8") + "; null")
        script = f"axe.run(document, {{runOnly: {json.dumps(LEVELS)}, preload: false, resultTypes: ['violations']}})"
        found = self.run(
            f"{script}.then(all => all.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 160))]))"
        )
        return [f"{rule}: {len(nodes)}, {nodes[0]}" for rule, nodes in found]

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and let go of a key, as a keyboard does."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the mouse from one place of the window to another."""
        for kind, (x, y), buttons in (
            ("mousePressed", start, 1), ("mouseMoved", end, 1), ("mouseReleased", end, 0),
        ):  # fmt: skip
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)

    def size(self, width: int, height: int) -> None:
        """The window, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")["data"]
        path.write_bytes(base64.b64decode(data))
