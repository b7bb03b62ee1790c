"""A member of a cluster that does as it likes: real HTTPS, a member's certificate, the protocol.

Untold it is honest: it has the blobs that it was given, whole and checked, and knows their hashes.
What it does wrong is set on it (``alters``, ``speaks``, ``to`` ...) or queued as for any
``FakeServer`` (``cut``, ``stall``, ``drop``, ``answer``).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from typing_extensions import override

from cache.content import Digest
from registryd.cluster.geometry import Geometry
from registryd.cluster.identity_files import IdentityFiles
from registryd.cluster.peer_tls import PeerTls
from tests.fakes.http import FakeServer, Reply, reply
from tests.fakes.members import Site

#: Requests for bytes of chunks, as faults name them.
CHUNKS = "GET /v2/.*/blobs/"
#: Requests for what a chunk hashes to.
WORDS = "GET /peer/v1/chunks/"

_BLOB = re.compile(r"/v2/(?P<repository>.+)/blobs/(?P<digest>sha256:[0-9a-f]{64})")
_WORD = re.compile(r"/peer/v1/chunks/(?P<digest>sha256:[0-9a-f]{64})/(?P<chunk>\d+)")
_RANGE = re.compile(r"bytes=(?P<start>\d+)-(?P<last>\d+)")


def other_byte(content: bytes) -> bytes:
    """The same length, and one bit of it turned over in the middle."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


class FakePeer(FakeServer):
    """The peer; its ``id`` is known once it listens."""

    def __init__(self, files: IdentityFiles) -> None:
        super().__init__()
        self.files = files
        self.blobs: dict[str, bytes] = {}
        #: What it makes of each chunk before it sends it.
        self.alters: Callable[[bytes], bytes] = bytes
        #: Whether it says that it has proven what it sends.
        self.checked = True
        #: What it tells chunks to hash to: ``truth``, ``lie`` (of what it sends), ``nothing``.
        self.speaks = "truth"
        #: Whom it sends everyone to who wants a chunk.
        self.to = ""

    @property
    def id(self) -> str:
        """What the others call it."""
        return self.name

    def add(self, content: bytes) -> None:
        """Give it a blob."""
        self.blobs[str(Digest.of(content))] = content

    def said(self, header: str) -> list[str]:
        """The values of a header in all requests so far."""
        return [seen.headers[header] for seen in self.requests if header in seen.headers]

    @override
    @asynccontextmanager
    async def serve(self, **site: Any) -> AsyncIterator[FakePeer]:
        """Listen as the member that the certificate is of."""
        tls = await asyncio.to_thread(PeerTls.load, self.files)
        async with super().serve(ssl_context=tls.listener, **site):
            yield self

    @override
    async def respond(self, request: web.BaseRequest) -> Reply:
        path = request.rel_url.path
        if match := _WORD.fullmatch(path):
            return self._word(match["digest"], int(match["chunk"]))
        match = _BLOB.fullmatch(path)
        if match is None or match["digest"] not in self.blobs:
            return reply(404)
        return self._chunk(request, match["digest"])

    def _word(self, digest: str, chunk: int) -> Reply:
        said = self._said(digest, chunk) if digest in self.blobs else None
        if said is None:
            return reply(404)
        return reply(200, json.dumps({"digest": said}), Content_Type="application/json")

    def _said(self, digest: str, chunk: int) -> str | None:
        if self.speaks == "nothing":
            return None
        start, stop = Geometry(len(self.blobs[digest])).span(chunk)
        content = self.blobs[digest][start:stop]
        return str(Digest.of(self.alters(content) if self.speaks == "lie" else content))

    def _chunk(self, request: web.BaseRequest, digest: str) -> Reply:
        if self.to:
            return reply(307, Location=f"https://{self.to}{request.raw_path}", Registryd_To=self.to)
        match = _RANGE.fullmatch(request.headers.get("Range", ""))
        assert match is not None, f"a node asks for a chunk by one range: {request.headers}"
        start, stop = int(match["start"]), int(match["last"]) + 1
        content = self.blobs[digest]
        geometry = Geometry(len(content))
        chunk = start // geometry.chunk
        first, last = geometry.span(chunk)
        assert stop == last, f"{start}-{stop} does not end with its chunk"
        answer = reply(
            206,
            self.alters(content[first:last])[start - first :],
            Content_Range=f"bytes {start}-{stop - 1}/{len(content)}",
            Registryd_Here=str(last - first),
        )
        answer.counted_as = digest
        if self.checked:
            answer.headers["Registryd-Checked"] = "1"
            said = self._said(digest, chunk)
            if said is not None:
                answer.headers["Registryd-Chunk"] = said
        return answer


@asynccontextmanager
async def fake_peer(site: Site, name: str, *blobs: bytes) -> AsyncIterator[FakePeer]:
    """A member of this site that has these blobs."""
    peer = FakePeer(await asyncio.to_thread(site.node, name))
    for content in blobs:
        peer.add(content)
    async with peer.serve():
        yield peer
