"""A body that goes wrong in any way goes on at the byte reached: for pulls and for copies."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache.content import Descriptor, Digest
from cache.store import BlobStore
from registryd.config import RegistryConfig, TransferConfig
from registryd.oci.reference import Reference
from registryd.ports import Remote
from registryd.remote.remotes import RegistryRemotes
from registryd.transfer.endpoints import RegistrySource
from registryd.transfer.intake import Intake, Want
from tests.fakes.cdn import FakeCdn
from tests.fakes.certificates import make_identity
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry

CONTENT = random.Random(9).randbytes(400_000)
DIGEST = Digest.of(CONTENT)
STOP = 150_000
SETTINGS = TransferConfig(attempts=2, stall_timeout=20)
Fetch = Callable[[Remote, Reference], Awaitable[bytes]]


@pytest.fixture(params=["pull", "copy"])
def fetch(request: pytest.FixtureRequest, store: BlobStore) -> Fetch:
    """Both ways in which a blob comes."""

    async def pull(remote: Remote, app: Reference) -> bytes:
        ingest = await store.ingest(DIGEST, size=len(CONTENT))
        await Intake(Want(remote, app, DIGEST), ingest, SETTINGS).run()
        await store.commit(ingest)
        return await store.read(DIGEST, limit=len(CONTENT))

    async def copy(remote: Remote, app: Reference) -> bytes:
        blob = Descriptor("application/x", DIGEST, len(CONTENT))
        async with RegistrySource(remote, app, SETTINGS).blob(blob) as body:
            return b"".join([piece async for piece in body])

    return pull if request.param == "pull" else copy


class Raw:
    """Serves one blob; its first answer goes wrong after STOP bytes."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self.asked: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        match = re.search(r"(?i)^range: bytes=(\d+)-", head, re.MULTILINE)
        self.asked.append(match[1] if match else "")
        if len(self.asked) == 1:
            await self._go_wrong(writer)
        else:
            rest = CONTENT[int(self.asked[-1]) :]
            span = f"{len(CONTENT) - len(rest)}-{len(CONTENT) - 1}/{len(CONTENT)}"
            words = f"206 Partial\r\nContent-Range: bytes {span}\r\nContent-Length: {len(rest)}"
            writer.write(f"HTTP/1.1 {words}\r\n\r\n".encode() + rest)
            await writer.drain()
        writer.close()

    async def _go_wrong(self, writer: asyncio.StreamWriter) -> None:
        chunked = self._fault.startswith("chunk")
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(CONTENT)}"
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        writer.write((b"%x\r\n" % STOP if chunked else b"") + CONTENT[:STOP])
        writer.write(b"\r\n" if chunked else b"")
        await writer.drain()
        if self._fault == "chunk garbage":
            writer.write(b"zzz not a chunk\r\n" + b"\xff" * 100)
        elif self._fault == "chunk end":
            writer.write(b"0\r\n\r\n")
        elif self._fault == "broken record":
            raw = writer.transport.get_extra_info("socket").dup()
            raw.setblocking(True)
            raw.sendall(b"\x17\x03\x03\x00\x20" + b"\x00" * 32)  # what no key has sealed
            raw.close()
        elif self._fault == "no goodbye":
            writer.transport.abort()

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext | None) -> AsyncIterator[str]:
        """Listen; the registry's name."""
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0, ssl=tls)
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def client(name: str, config: RegistryConfig, clock: FakeClock) -> AsyncIterator[Remote]:
    """A registry of this configuration."""
    opened = RegistryRemotes.open(
        registries={name: config}, transfer=SETTINGS, allow=("*",), credentials=None, proxies={},
        clock=clock.clock,
    )  # fmt: skip
    async with opened as remotes:
        yield remotes.remote(name)


@pytest.mark.parametrize(
    ("fault", "tls"),
    [
        ("chunk garbage", False),
        ("chunk end", False),
        ("chunk garbage", True),
        ("short", False),
        ("short", True),
        ("broken record", True),
        ("no goodbye", True),
    ],
)
async def test_whatever_goes_wrong_in_a_body(
    fetch: Fetch, fault: str, tls: bool, tmp_path: Path, clock: FakeClock
) -> None:
    """Garbage where a chunk should be, an end that is too early, a record of TLS that is broken or
    a connection without its goodbye: one more request, for what is missing."""
    identity = make_identity(tmp_path) if tls else None
    config = RegistryConfig(ca_file=identity.cert_file) if identity else RegistryConfig()
    raw = Raw(fault)
    async with raw.serve(identity.server_context() if identity else None) as name:
        config = config if tls else RegistryConfig(plain_http=True)
        async with client(name, config, clock) as remote, asyncio.timeout(20):
            got = await fetch(remote, Reference(name, "team/app"))

    assert CONTENT == got
    first, second = raw.asked
    assert first == ""
    assert 0 < int(second) <= STOP


async def test_a_presigned_url_that_has_expired_meanwhile(fetch: Fetch, clock: FakeClock) -> None:
    """The registry is asked for a new one each time that a body breaks off, and no byte comes
    twice."""
    async with FakeCdn().serve() as cdn, FakeRegistry().serve() as registry:
        registry.cdn, cdn.uses = cdn, 1
        registry.add_blob("team/app", CONTENT)
        cdn.cut("^GET", at=STOP, times=2)
        async with client(registry.name, RegistryConfig(plain_http=True), clock) as remote:
            got = await fetch(remote, Reference(registry.name, "team/app"))

    asked = [seen.headers.get("Range", "") for seen in cdn.asked("^GET")]
    assert (CONTENT, len(CONTENT)) == (got, cdn.sent[str(DIGEST)])
    assert ["", f"bytes={STOP}-", f"bytes={2 * STOP}-"] == asked
    assert 3 == len(registry.lines("GET .*/blobs/"))
