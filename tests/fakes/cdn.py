"""A scripted CDN: where blobs are when the registry redirects."""

from __future__ import annotations

from aiohttp import web

from tests.fakes.http import FakeServer, Reply, reply
from tests.fakes.ranges import serve_range


class FakeCdn(FakeServer):
    """Takes signed URLs only, and neither Authorization nor cookies.

    A URL is good for ``uses`` requests, for any number where that is None; ``head`` is what a HEAD
    is answered with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.signature = "sig=a%2Fb%2Bc%3D&X-Date=2026%3A01+x"
        self.uses: int | None = None
        self.head = 200
        self._left: dict[str, int] = {}

    def location(self, digest: str) -> str:
        """A presigned URL for a blob."""
        query = self.signature
        if self.uses is not None:
            query = f"{query}&serial={len(self._left)}"
            self._left[query] = self.uses
        return f"{self.url}/data/{digest}?{query}"

    async def respond(self, request: web.BaseRequest) -> Reply:
        path, _, query = request.raw_path.partition("?")
        known = query == self.signature if self.uses is None else query in self._left
        if not known:
            return reply(403, "<Error>SignatureDoesNotMatch</Error>", Content_Type="text/xml")
        if "Authorization" in request.headers or "Cookie" in request.headers:
            return reply(400, "Only one auth mechanism allowed")
        if request.method == "HEAD" and self.head != 200:
            return reply(self.head)
        if self.uses is not None:
            self._left[query] -= 1
            if self._left[query] < 0:
                return reply(403, "<Error>Request has expired</Error>", Content_Type="text/xml")
        digest = path.removeprefix("/data/")
        return serve_range(request, self.blobs[digest], digest)
