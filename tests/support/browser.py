"""A headless Chromium, driven through its DevTools protocol, by tornado, which dask brings."""

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.request import urlopen

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser() -> str | None:
    """The program; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """A page, opened in a browser of its own; a context manager.

    Attributes:
        complaints: what the page wrote to its console as errors or warnings, and what it failed to load.
        asked: addresses that it asked for.
    """

    def __init__(self, folder: Path, width: int = 1280, height: int = 900) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self._size = width, height
        self._count = 0
        self._loop = asyncio.new_event_loop()
        self._process = subprocess.Popen(
            [
                browser() or "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self):
        for line in self._process.stderr:
            if match := re.search(r"ws://(127\.0\.0\.1:\d+)/", line):
                break
        else:
            raise RuntimeError("the browser has ended")
        with urlopen(f"http://{match[1]}/json/list") as answer:
            address = next(each for each in json.load(answer) if each["type"] == "page")[
                "webSocketDebuggerUrl"
            ]
        self._loop.run_until_complete(self._connect(address))
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        width, height = self._size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        return self

    async def _connect(self, address: str) -> None:
        from tornado.websocket import websocket_connect

        self._socket = await websocket_connect(address, max_message_size=2**27)

    def __exit__(self, *_) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)
        self._process.stderr.close()
        self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    def call(self, method: str, **arguments):
        """Call a method of the protocol; what it answers."""
        self._count += 1
        self._socket.write_message(json.dumps({"id": self._count, "method": method, "params": arguments}))
        while True:
            text = self._loop.run_until_complete(asyncio.wait_for(self._read(), 120))
            if text is None:
                raise RuntimeError("the browser has hung up")
            message = json.loads(text)
            if message.get("id") == self._count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    async def _read(self):
        return await self._socket.read_message()

    def _note(self, message) -> None:
        given = message.get("params", {})
        kind = message.get("method")
        if kind == "Runtime.exceptionThrown":
            self.complaints.append(str(given["exceptionDetails"].get("exception", given)))
        elif kind == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(given["args"]))
        elif kind == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.complaints.append(str(given["entry"]))
        elif kind == "Network.requestWillBeSent":
            self.asked.append(given["request"]["url"])

    def open(self, address: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def ask(self, expression: str):
        """The value of a JavaScript expression, promises awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def until(self, expression: str, tries: int = 600) -> None:
        """Wait until an expression is true."""
        for _ in range(tries):
            if self.ask(expression):
                return
            self._loop.run_until_complete(asyncio.sleep(0.1))
        raise TimeoutError(expression)

    def drag(self, places: list[tuple[float, float]]) -> None:
        """Press the pointer at the first place, move it over the others, let go."""
        for k, (x, y) in enumerate(places):
            kind = "mouseMoved" if k else "mousePressed"
            pressed = {"button": "left", "buttons": 1, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)
        x, y = places[-1]
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: str = "") -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            more = text if kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, **more)

    def picture(self, path: Path) -> None:
        """A picture of what is to be seen, as a file of PNG."""
        import base64

        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
