"""Clients of a registry for benches, on bare streams: pull, push, delete, and leave in the middle.

A pull is what a runtime does: the manifest by tag, then config and layers over a few connections,
every byte hashed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.rig import CONFIG, LAYER, MANIFEST, MIB

CONNECTIONS = 3
#: How often an upload is asked to end, a tenth of a second apart.
TRIES = 300


@dataclass(frozen=True)
class Image:
    """Where an image is: ``repository`` is the path before ``/manifests/``."""

    port: int
    repository: str
    tag: str = "1"

    @property
    def manifest(self) -> str:
        """The path of its manifest."""
        return f"{self.repository}/manifests/{self.tag}"


class Line:
    """One connection that is kept for several requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(
        self, method: str, path: str, body: bytes = b"", kind: str = "", more: int = 0
    ) -> None:
        """Send a request; ``more`` bytes are announced and not sent."""
        length = (
            f"Content-Length: {len(body) + more}\r\n" if method in ("PUT", "PATCH", "POST") else ""
        )
        kind = f"Content-Type: {kind}\r\n" if kind else ""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAccept: {MANIFEST}\r\n{length}{kind}\r\n"
        )
        self.writer.write(head.encode() + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer, whose body is to be read yet."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split()[1]), {key.lower(): value.strip() for key, _, value in pairs}

    async def ask(
        self, method: str, path: str, wanted: int, body: bytes = b"", kind: str = ""
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body of the answer. Raises RuntimeError for another status, and OSError."""
        self.send(method, path, body, kind)
        status, headers = await self.head()
        content = await self.reader.readexactly(int(headers.get("content-length", "0")))
        if status != wanted:
            raise RuntimeError(
                f"{method} {path.partition('/blobs/')[0]}: {status} {content[:200]!r}"
            )
        return headers, content


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Line]:
    """A connection to loopback for the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MIB)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def pull(image: Image) -> None:
    """One pull. Raises RuntimeError for a wrong answer, OSError and EOFError."""
    async with connected(image.port) as line:
        _, raw = await line.ask("GET", image.manifest, 200)
    document = json.loads(raw)
    wanted = iter([document["config"]["digest"], *(e["digest"] for e in document["layers"])])
    await asyncio.gather(*(_take(image, wanted) for _ in range(CONNECTIONS)))


async def _take(image: Image, wanted: Iterator[str]) -> None:
    """One connection: the next blob that no other has taken, until there is none."""
    async with connected(image.port) as line:
        for digest in wanted:
            _, body = await line.ask("GET", f"{image.repository}/blobs/{digest}", 200)
            if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
                raise RuntimeError(f"{digest}: wrong bytes")


async def leave(image: Image, part: int) -> None:
    """Ask for the first layer, read so many bytes of it, and go."""
    async with connected(image.port) as line:
        _, raw = await line.ask("GET", image.manifest, 200)
        line.send("GET", f"{image.repository}/blobs/{json.loads(raw)['layers'][0]['digest']}")
        await line.head()
        await line.reader.readexactly(part)


async def push(image: Image, layers: list[bytes]) -> None:
    """Push an image of these layers. Raises RuntimeError for a refusal, and OSError."""
    async with connected(image.port) as line:
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}}).encode()
        listed = [await _put(line, image, LAYER, content) for content in layers]
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": await _put(line, image, CONFIG, config),
            "layers": listed,
        }
        await line.ask("PUT", image.manifest, 201, json.dumps(document).encode(), MANIFEST)


async def _put(line: Line, image: Image, kind: str, content: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    place = await _open(line, image)
    mark = "&" if "?" in place else "?"
    await line.ask("PUT", f"{place}{mark}digest={digest}", 201, content)
    return {"mediaType": kind, "digest": digest, "size": len(content)}


async def _open(line: Line, image: Image) -> str:
    headers, _ = await line.ask("POST", f"{image.repository}/blobs/uploads/", 202)
    place = headers["location"]
    return "/" + place.split("/", 3)[3] if place.startswith("http") else place


async def give_up(image: Image, part: bytes) -> None:
    """Begin an upload, go in the middle of its bytes, come back and cancel it."""
    async with connected(image.port) as line:
        place = await _open(line, image)
        line.send("PATCH", place, part, more=len(part))
        await line.writer.drain()
    async with connected(image.port) as line:
        for _ in range(TRIES):
            if await _status(line, "DELETE", place) == 204:
                return
            await asyncio.sleep(0.1)  # it is busy with the bytes of who has just gone
    raise RuntimeError("an upload could not be cancelled")


async def _status(line: Line, method: str, path: str) -> int:
    line.send(method, path)
    status, headers = await line.head()
    await line.reader.readexactly(int(headers.get("content-length", "0")))
    return status


async def delete(image: Image) -> None:
    """Delete a pushed image. Raises RuntimeError for a refusal, and OSError."""
    async with connected(image.port) as line:
        await line.ask("DELETE", image.manifest, 202)
