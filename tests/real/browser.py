"""Debian's headless Chromium, steered over its DevTools protocol; and its way to a unix socket.

Each ends its own process and nothing else. The browser finds nothing of this machine's users (its
home is a throw-away folder), resolves no name, and reaches loopback addresses only.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAM = "chromium-headless-shell"
#: Seconds for a start, for an answer and until a claim holds, on a busy machine too.
LIMIT = 60.0
#: Between two looks at a page (seconds).
PAUSE = 0.05
FLAGS = (
    "--headless",
    "--no-sandbox",  # tests run as root, which Chromium's sandbox refuses
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)
_DEVTOOLS = re.compile(r"DevTools listening on ws://([^/\s]+)/")


def program() -> str:
    """The browser itself: Debian's script in front of it knows one place only. Fails without it."""
    found = shutil.which(PROGRAM)
    if found is None:
        pytest.fail(f"{PROGRAM} is not installed (Debian: apt install {PROGRAM})")
    beside = Path(found).resolve().parent.parent / "lib/chromium" / PROGRAM
    return str(beside if beside.exists() else found)


@dataclass
class Page:
    """One page: what it has asked for, what its console has said, and what may be done with it."""

    socket: aiohttp.ClientWebSocketResponse
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        number = len(self._answers) + 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(LIMIT):
            return await answer

    async def read(self) -> None:
        """Take in what the browser tells, until it ends."""
        async for message in self.socket:
            told = message.json()
            if "id" in told:
                self._answer(told)
            elif told["method"] == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"])
            elif told["method"] == "Runtime.exceptionThrown":
                self.said.append(str(told["params"]["exceptionDetails"]))
            elif told["method"] == "Log.entryAdded":
                self.said.append(str(told["params"]["entry"]))
            elif told["method"] == "Runtime.consoleAPICalled":
                self.said.append(str(told["params"]["args"]))

    def _answer(self, told: dict[str, Any]) -> None:
        answer = self._answers[told["id"]]
        if "error" in told:
            answer.set_exception(AssertionError(told["error"]))
        else:
            answer.set_result(told["result"])

    async def open(self, url: str) -> None:
        """Go to a page; it and its scripts have been loaded then."""
        for domain in ("Network", "Runtime", "Log", "Page"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)
        await self.until(f"location.href === {url!r} && document.readyState === 'complete'")

    async def value(self, expression: str) -> Any:
        """What an expression is on the page."""
        found = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    async def until(self, expression: str, claim: Callable[[Any], bool] = bool) -> Any:
        """Look until what an expression is fulfils a claim; what it is then."""
        value = None
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT):
                while not claim(value := await self.value(expression)):  # noqa: ASYNC110
                    await asyncio.sleep(PAUSE)
                return value
        raise AssertionError(f"{expression} is {value!r}; the console: {self.said}")

    async def press(self, key: str) -> None:
        """Press a key that writes nothing: Tab, ArrowRight."""
        codes = {"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39}
        for kind in ("rawKeyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
            )

    async def wear(self, width: int, *, dark: bool = False, height: int = 900) -> None:
        """Be so wide (CSS pixels), and light or dark."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, *, whole: bool = True) -> bytes:
        """The page as a PNG, ``whole`` or as much as is seen."""
        shot = await self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """A browser with one empty page; it has ended when the context has."""
    folder.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        program(),
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")},
        start_new_session=True,
    )
    said: list[str] = []
    try:
        async with asyncio.timeout(LIMIT):
            address = await _address(process, said)
        listening = asyncio.create_task(_drain(process))
        async with _page(address) as page:
            yield page
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it has children, in the session of its own
        await listening
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _address(process: asyncio.subprocess.Process, said: list[str]) -> str:
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode(errors="replace"):
        said.append(line)
        if match := _DEVTOOLS.search(line):
            return match[1]
    raise AssertionError("the browser has ended: " + "".join(said))


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.read(65536):
        pass


@asynccontextmanager
async def _page(address: str) -> AsyncIterator[Page]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{address}/json/list") as answer:
            targets = await answer.json()
        url = next(each["webSocketDebuggerUrl"] for each in targets if each["type"] == "page")
        async with session.ws_connect(url, max_msg_size=0) as socket:
            page = Page(socket)
            reading = asyncio.create_task(page.read())
            try:
                yield page
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


@asynccontextmanager
async def forwarded(path: str | Path) -> AsyncIterator[str]:
    """A loopback address whose connections come out on a unix socket, as ``ssh -L`` has it."""
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            far, out = await asyncio.open_unix_connection(str(path))
        except OSError:  # nobody is there any more
            back.close()
            return
        try:
            await asyncio.gather(_pump(near, out), _pump(far, back))
        finally:
            out.close()
            back.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    with suppress(OSError):
        sink.write_eof()
