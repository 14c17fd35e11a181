"""A real Chromium without a window, driven over its debugging protocol."""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

_WITHIN = 60  # seconds; a browser starts slowly on a busy machine
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # it may run as root, and opens our own files only
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """Where it is, or `None`."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


@dataclass
class Page:
    """A tab.

    Args:
        complaints: What went to its console, and errors that nobody caught.
        requests: Addresses it asked for, itself among them.
    """

    call: Callable[..., Awaitable[dict[str, Any]]]
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def open(
        self, path: Path, width: int, height: int = 900, *, scheme: str = "light", script: bool = True
    ) -> None:
        """Show a file, as a screen of this width would."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.loaded.clear()
        await self.call("Page.navigate", url=path.as_uri())
        await asyncio.wait_for(self.loaded.wait(), _WITHIN)

    async def value(self, expression: str) -> Any:
        """What an expression of JavaScript is, as JSON types."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))

    async def paper(self, path: Path) -> None:
        """Write the page as a PDF, A4."""
        answer = await self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))

    def hear(self, method: str, told: dict[str, Any]) -> None:
        """Take in an event of the browser."""
        if method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(told["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(str(told["entry"]["text"]))


@asynccontextmanager
async def chromium(executable: str) -> AsyncIterator[Page]:
    """An empty tab in a browser of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            executable,
            *_OPTIONS,
            f"--user-data-dir={folder}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            port = await asyncio.wait_for(_port(process), _WITHIN)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    address = next(tab["webSocketDebuggerUrl"] for tab in await answer.json() if tab["type"] == "page")
                async with session.ws_connect(address, max_msg_size=0) as socket, _driven(socket) as page:
                    yield page
        finally:
            process.terminate()
            assert process.stderr is not None
            await process.stderr.read()
            await process.wait()


async def _port(process: asyncio.subprocess.Process) -> int:
    """The port it says it listens on."""
    assert process.stderr is not None
    said = []
    while line := (await process.stderr.readline()).decode("utf-8", "replace"):
        said.append(line)
        if "DevTools listening on" in line:
            return int(line.split(":")[-1].split("/")[0])
    raise AssertionError("the browser did not start: " + "".join(said))


@asynccontextmanager
async def _driven(socket: Any) -> AsyncIterator[Page]:
    waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
    numbers = iter(range(1, 1_000_000))

    async def call(method: str, **params: Any) -> dict[str, Any]:
        number = next(numbers)
        waiting[number] = asyncio.get_running_loop().create_future()
        await socket.send_json({"id": number, "method": method, "params": params})
        return await asyncio.wait_for(waiting[number], _WITHIN)

    async def listen() -> None:
        async for message in socket:
            told = message.json()
            if (answered := waiting.pop(told.get("id"), None)) is not None:
                if "error" in told:
                    answered.set_exception(AssertionError(str(told["error"])))
                else:
                    answered.set_result(told["result"])
            elif "method" in told:
                page.hear(told["method"], told["params"])

    page = Page(call)
    listening = asyncio.create_task(listen())
    try:
        for domain in ("Page", "Network", "Runtime", "Log"):
            await call(f"{domain}.enable")
        yield page
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
