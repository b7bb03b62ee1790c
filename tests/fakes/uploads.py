"""The upload sessions of a scripted registry (distribution specification 1.1, "Push")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from aiohttp import web

from tests.fakes.http import Reply, error, reply
from tests.fakes.ranges import read_all
from tests.fakes.values import Repository, digest_of

if TYPE_CHECKING:
    from tests.fakes.registry import FakeRegistry


class Sessions:
    """Uploads that have begun, by what they are called."""

    def __init__(self, registry: FakeRegistry) -> None:
        self.held: dict[str, bytes] = {}
        self._registry = registry
        #: The sizes of the chunks of each.
        self._chunks: dict[str, list[int]] = {}

    async def respond(self, request: web.BaseRequest, name: str, session: str) -> Reply:
        traits = self._registry.traits.uploads
        query = parse_qs(request.rel_url.raw_query_string)
        chunked = request.headers.get("Transfer-Encoding", "").lower() == "chunked"
        body = await read_all(request)
        if chunked and not traits.chunked_coding:
            return error(411, "CONTENT_LENGTH_INVALID", "content length is required")
        if request.method == "POST":
            return self._begin(name, query, body)
        if session not in self.held:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "DELETE":
            del self.held[session]
            return reply(traits.cancelled)
        if request.method == "GET":
            if traits.progress == 404:
                return error(404, "NOT_FOUND")
            return reply(traits.progress, **self._place(name, session))
        if request.method == "PATCH":
            return self._chunk(request, name, session, body)
        return self._put(request, name, session, body, query)

    def _begin(self, name: str, query: dict[str, list[str]], body: bytes) -> Reply:
        traits, registry = self._registry.traits.uploads, self._registry
        if not traits.creates and name not in registry.repositories:
            return error(404, "NAME_UNKNOWN", "the repository does not exist")
        if registry.mounts and "mount" in query:
            mounted = self._mount(name, query["mount"][0], query.get("from", [""])[0])
            if mounted is not None:
                return mounted
        if "digest" in query and body:
            return self._take(name, body, query["digest"][0])
        session = f"s{len(registry.requests)}"
        self.held[session] = b""
        least = {"OCI_Chunk_Min_Length": str(traits.least)} if traits.says_least else {}
        return reply(202, Location=self._location(name, session), Range="0-0", **least)

    def _mount(self, name: str, digest: str, source: str) -> Reply | None:
        """The answer to a mount; None where it begins an upload instead."""
        traits, repositories = self._registry.traits.uploads, self._registry.repositories
        if not source and traits.mount_anonymous == 201:
            found = [r.blobs[digest] for r in repositories.values() if digest in r.blobs]
            content = found[0] if found else None
        else:
            content = repositories.get(source, Repository()).blobs.get(digest)
        if content is not None:
            self._registry.add_blob(name, content)
            return reply(201, Location=f"/v2/{name}/blobs/{digest}", Docker_Content_Digest=digest)
        refused = traits.mount_absent if source else traits.mount_anonymous
        if refused in (201, 202):
            return None
        challenge = {"WWW_Authenticate": 'Basic realm="fake"'} if refused == 401 else {}
        return error(refused, "NAME_INVALID", "invalid repository name", **challenge)

    def _chunk(self, request: web.BaseRequest, name: str, session: str, body: bytes) -> Reply:
        traits, held = self._registry.traits.uploads, self.held[session]
        if not traits.chunks:
            return error(traits.chunks_refused, "UNSUPPORTED", "chunked uploads are not supported")
        if (traits.most and len(body) > traits.most) or not self._goes_on(request, held, body):
            return reply(416, **self._place(name, session))
        chunks = self._chunks.setdefault(session, [])
        if chunks and chunks[-1] < traits.least:
            # Only the last chunk may be small, and that one was not the last.
            return error(400, "BLOB_UPLOAD_INVALID", "LayerPartTooSmall")
        chunks.append(len(body))
        self.held[session] = held + body
        return reply(traits.patched, **self._place(name, session))

    def _put(
        self,
        request: web.BaseRequest,
        name: str,
        session: str,
        body: bytes,
        query: dict[str, list[str]],
    ) -> Reply:
        traits, held = self._registry.traits.uploads, self.held[session]
        if traits.most_whole and len(body) > traits.most_whole:
            return reply(413, "<html><title>413 Request Entity Too Large</title></html>")
        if not self._goes_on(request, held, body):
            return reply(416, **self._place(name, session))
        whole = held + body
        if not whole and not traits.empty:
            return error(400, "BLOB_UPLOAD_INVALID", "empty blob")
        del self.held[session]
        return self._take(name, whole, query.get("digest", [""])[0])

    def _take(self, name: str, content: bytes, digest: str) -> Reply:
        if digest_of(content, digest.partition(":")[0]) != digest:
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self._registry.add_blob(name, content, digest)
        status = self._registry.traits.uploads.finished
        return reply(status, Location=f"/v2/{name}/blobs/{digest}", Docker_Content_Digest=digest)

    @staticmethod
    def _goes_on(request: web.BaseRequest, held: bytes, body: bytes) -> bool:
        """Whether a body begins where the session is: by the specification, without a unit."""
        wanted = request.headers.get("Content-Range")
        if wanted is None:
            return True
        match = re.fullmatch(r"(\d+)-(\d+)", wanted)
        return match is not None and (int(match[1]), int(match[2])) == (
            len(held),
            len(held) + len(body) - 1,
        )

    def _place(self, name: str, session: str) -> dict[str, str]:
        """Location and Range of a session as it is now."""
        traits = self._registry.traits.uploads
        last = max(len(self.held[session]) - 1, 0)
        first = max(self._chunks.get(session, [0])[0] - 1, 0)
        reached = traits.reached.format(last=last, first=first)
        place = {"Location": self._location(name, session)}
        return place | ({"Range": reached} if reached else {})

    def _location(self, name: str, session: str) -> str:
        path = f"/v2/{name}/blobs/uploads/{session}"
        return self._registry.traits.uploads.location.format(
            path=path, session=session, name=name, **self._registry.names
        )
