"""A real registryd process, on a root, a socket and a port of its own; ended by its process id."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
#: Seconds in which the daemon must have become ready, or have ended, on a busy machine too.
LIMIT = 30.0
_READY = re.compile(r" ready: .* listeners=(?P<doors>.*)")


@dataclass
class DaemonProcess:
    """One run of the program: what it has said, and how to reach it."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def doors(self) -> list[str]:
        """What it listens on: ``unix:PATH`` and ``HOST:PORT``."""
        for line in self.lines:
            if match := _READY.search(line):
                return match["doors"].split(", ")
        return []

    @property
    def url(self) -> str:
        """Where its TCP listener is, by the port that it chose."""
        return next(f"http://{door}" for door in self.doors if not door.startswith("unix:"))

    @property
    def socket(self) -> str:
        return next(door.removeprefix("unix:") for door in self.doors if door.startswith("unix:"))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client of the unix socket."""
        connector = aiohttp.UnixConnector(self.socket)
        timeout = aiohttp.ClientTimeout(total=LIMIT)
        async with aiohttp.ClientSession(
            "http://node", connector=connector, timeout=timeout
        ) as session:
            yield session

    async def said(self, words: str) -> str:
        """Wait for a line with these words; the line."""
        async with asyncio.timeout(LIMIT), self.news:
            while True:
                for line in self.lines:
                    if words in line:
                        return line
                if self.reader is not None and self.reader.done():
                    raise AssertionError(f"it ended without {words!r}:\n" + "\n".join(self.lines))
                await self.news.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end; the exit code."""
        async with asyncio.timeout(LIMIT):
            code = await self.process.wait()
            if self.reader is not None:
                await self.reader
        return code

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            async with self.news:
                self.lines.append(line.decode().rstrip())
                self.news.notify_all()
        async with self.news:
            self.news.notify_all()


@asynccontextmanager
async def started(
    config: Path,
    environ: Mapping[str, str] | None = None,
    *,
    under: Sequence[str] = (),
    fds: Sequence[int] = (),
    ready: bool = True,
) -> AsyncIterator[DaemonProcess]:
    """Run the daemon, ``under`` another program if so; it has ended when the context has.

    ``fds`` are open files that it inherits, under their numbers here.
    """
    process = await asyncio.create_subprocess_exec(
        *under,
        sys.executable,
        *("-m", "registryd.daemon", "--config", str(config)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=fds,
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(config.parent),
            "CONTAINERS_REGISTRIES_CONF": "/dev/null",  # nothing of this machine's own
            **(environ or {}),
        },
    )
    daemon = DaemonProcess(process)
    daemon.reader = asyncio.create_task(daemon._read())
    try:
        if ready:
            await daemon.said(" ready: ")
        yield daemon
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await daemon.ended()
