"""A client that speaks HTTP by hand, for what no proper client does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that differ from place to place."""
    return random.Random(seed).randbytes(size)


@dataclass
class Answer:
    """What came back on the wire."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(
        self, method: str, path: str, *headers: str, version: str = "1.1", body: bytes = b""
    ) -> None:
        """Send a request as it stands here."""
        lines = [f"{method} {path} HTTP/{version}", "Host: node", *headers]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self) -> Answer:
        """The head of the next answer."""
        async with asyncio.timeout(20):
            raw = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = raw.strip().split("\r\n")
        version, status, *_ = first.split()
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Answer(version, int(status), headers, b"")

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """The next answer, whole; IncompleteReadError when it is cut."""
        answer = await self.head()
        if not bodiless:
            async with asyncio.timeout(20):
                answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
        return answer

    async def take(self, count: int) -> bytes:
        """So many bytes; IncompleteReadError when the connection ends before."""
        async with asyncio.timeout(20):
            return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        """All that comes before the connection ends, in whatever way."""
        came = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(20):
                while piece := await self.reader.read(MIB):
                    came += piece
        return came


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    """A connection to a loopback port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * KIB)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
