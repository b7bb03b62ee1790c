"""A scripted registry that makes uploads hard, as real ones do: by host, or by breaking off."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from aiohttp import web
from typing_extensions import override

from tests.fakes.http import Reply, error, reply
from tests.fakes.registry import FakeRegistry
from tests.fakes.uploads import Sessions


@dataclass
class Quirks:
    """How uploads are taken. Sizes in bytes; 0: whatever comes."""

    #: Bytes of a request that is broken off are kept.
    keeps: bool = True
    #: A PUT with more is refused with 413; a chunk with more with this status.
    whole_most: int = 0
    chunk_most: int = 0
    too_large: int = 416
    #: A chunk with less, that is not the last one, makes the upload fail in the end.
    chunk_least: int = 0
    #: What a PATCH is refused with, and what it is answered with.
    no_chunks: int = 0
    patched: int = 202
    #: Whether a session says how far it is, and whether the Range of a PATCH is true.
    tells: bool = True
    range_stays: bool = False


class BreakingSessions(Sessions):
    """Sessions whose bytes are counted while they come."""

    def __init__(self, registry: UploadRegistry) -> None:
        super().__init__(registry)
        self._breaking = registry
        self._short: set[str] = set()

    @override
    async def respond(self, request: web.BaseRequest, name: str, session: str) -> Reply:
        quirks = self._breaking.quirks
        if request.method == "POST":
            await request.read()
            return self._begin(name, parse_qs(request.rel_url.raw_query_string), b"")
        if session not in self.held:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "DELETE":
            del self.held[session]
            return reply(204)
        if request.method == "GET":
            return reply(204, **self._place(name, session)) if quirks.tells else error(404, "X")
        length = int(request.headers["Content-Length"])
        refused = self._refused(request, session, length)
        if refused is not None:
            refused.headers.update(self._place(name, session))
            await self._read(request, bytearray())
            return refused
        held = bytearray(self.held[session])
        whole = await self._read(request, held)
        if whole or quirks.keeps:
            self.held[session] = bytes(held)
        if not whole:
            assert request.transport is not None
            request.transport.abort()
            return reply(500)
        if request.method == "PATCH":
            return self._patched(name, session, length)
        query = parse_qs(request.rel_url.raw_query_string)
        return self._take(name, self.held.pop(session), query["digest"][0])

    def _refused(self, request: web.BaseRequest, session: str, length: int) -> Reply | None:
        quirks, held = self._breaking.quirks, len(self.held[session])
        if request.method == "PUT":
            large = quirks.whole_most and length > quirks.whole_most
            return error(413, "SIZE_INVALID") if large else None
        if quirks.no_chunks:
            return error(quirks.no_chunks, "UNSUPPORTED")
        stated = re.fullmatch(r"(\d+)-(\d+)", request.headers.get("Content-Range", ""))
        assert stated is not None, "a Content-Range without unit and total"
        if quirks.chunk_most and length > quirks.chunk_most:
            return error(quirks.too_large, "SIZE_INVALID")
        if (int(stated[1]), int(stated[2])) != (held, held + length - 1):
            return error(416, "RANGE_INVALID")
        return None

    async def _read(self, request: web.BaseRequest, into: bytearray) -> bool:
        """Read a body; False when we hang up in the middle of it."""
        registry = self._breaking
        async for piece in request.content.iter_any():
            stop = registry.break_at
            if stop is not None and registry.received + len(piece) >= stop:
                into += piece[: stop - registry.received]
                registry.received, registry.break_at = stop, None
                return False
            registry.received += len(piece)
            into += piece
        return True

    def _patched(self, name: str, session: str, length: int) -> Reply:
        quirks = self._breaking.quirks
        if session in self._short:
            return error(400, "BLOB_UPLOAD_INVALID", "a part was too small")
        if length < quirks.chunk_least:
            self._short.add(session)
        answer = reply(quirks.patched, **self._place(name, session))
        if quirks.range_stays:
            answer.headers["Range"] = "0-0"
        return answer

    @override
    def _place(self, name: str, session: str) -> dict[str, str]:
        held = self.held[session]
        # The state changes with each answer: who uses an old one is found out.
        return {
            "Location": f"/v2/{name}/blobs/uploads/{session}?_state=a%2Fb%2B{len(held)}",
            "Range": f"0-{max(len(held) - 1, 0)}",
        }


class UploadRegistry(FakeRegistry):
    """The registry. ``received`` counts the bytes of bodies; at ``break_at`` it hangs up, once."""

    def __init__(self, quirks: Quirks | None = None) -> None:
        super().__init__()
        self.quirks = quirks or Quirks()
        self.received = 0
        self.break_at: int | None = None
        self.sessions = BreakingSessions(self)

    def blob(self, repository: str, digest: object) -> bytes | None:
        """What is there."""
        found = self.repositories.get(repository)
        return None if found is None else found.blobs.get(str(digest))
