"""A small scripted registry: manifests, blobs, tags and uploads in memory, over real HTTP.

What it does properly is what the distribution specification says; everything else is a fault that
a test asks for (see ``tests.fakes.http``). Import ``FakeServer``'s words from there.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from aiohttp import web

from tests.fakes.http import FakeServer, Reply, reply
from tests.fakes.tokens import FakeTokenServer, decode_basic

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"

_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs/uploads|blobs|tags)/(?P<what>.*)")
_ROOT = re.compile(r"/v2/?")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def make_image(*layers: bytes, config: bytes = b'{"os":"linux","architecture":"amd64"}') -> bytes:
    """The manifest of an image with these layers."""

    def point(media_type: str, content: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": point(OCI_CONFIG, config),
            "layers": [point(OCI_LAYER, layer) for layer in layers],
        }
    ).encode()


def error(status: int, code: str, message: str = "", **headers: str) -> Reply:
    """A proper error reply."""
    body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]})
    return reply(status, body, Content_Type="application/json", **headers)


@dataclass
class Repository:
    """What one repository holds; manifests are there by tag and by digest."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def tags(self) -> list[str]:
        return [target for target in self.manifests if ":" not in target]


class FakeCdn(FakeServer):
    """Where blobs are when the registry redirects: takes signed URLs only, and no Authorization."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.signature = "sig=a%2Fb%2Bc%3D&X-Date=2026%3A01+x"

    def location(self, digest: str) -> str:
        return f"{self.url}/data/{digest}?{self.signature}"

    async def respond(self, request: web.BaseRequest) -> Reply:
        path, _, query = request.raw_path.partition("?")
        if query != self.signature:
            return reply(403, "<Error>SignatureDoesNotMatch</Error>", Content_Type="text/xml")
        if "Authorization" in request.headers or "Cookie" in request.headers:
            return reply(400, "Only one auth mechanism allowed")
        digest = path.removeprefix("/data/")
        return serve_range(request, self.blobs[digest], digest)


class FakeRegistry(FakeServer):
    """The registry. ``users`` makes it want Basic, ``tokens`` Bearer."""

    def __init__(
        self, *, users: dict[str, str] | None = None, tokens: FakeTokenServer | None = None
    ) -> None:
        super().__init__()
        self.repositories: dict[str, Repository] = {}
        self.users = users
        self.tokens = tokens
        self.challenge = ""
        self.cdn: FakeCdn | None = None
        self.mounts = True
        self.page = 0
        self._uploads: dict[str, bytes] = {}

    def add_blob(self, repository: str, content: bytes) -> str:
        """Put a blob there; its digest."""
        digest = digest_of(content)
        self.repositories.setdefault(repository, Repository()).blobs[digest] = content
        if self.cdn is not None:
            self.cdn.blobs[digest] = content
        return digest

    def add_manifest(
        self, repository: str, tag: str, raw: bytes, media_type: str = OCI_MANIFEST
    ) -> str:
        """Put a manifest there, under a tag unless that is empty; its digest."""
        digest = digest_of(raw)
        manifests = self.repositories.setdefault(repository, Repository()).manifests
        manifests[digest] = (media_type, raw)
        if tag:
            manifests[tag] = (media_type, raw)
        return digest

    def add_image(self, repository: str, tag: str, *layers: bytes) -> str:
        """Put a whole image there; its manifest's digest."""
        config = b'{"os":"linux","architecture":"amd64"}'
        for content in (config, *layers):
            self.add_blob(repository, content)
        return self.add_manifest(repository, tag, make_image(*layers, config=config))

    async def respond(self, request: web.BaseRequest) -> Reply:
        path = request.rel_url.path
        match = _PATH.fullmatch(path)
        name = match["name"] if match else ""
        refused = self._check(request, name)
        if refused is not None:
            await read_all(request)
            return refused
        if _ROOT.fullmatch(path):
            return reply(200, "{}", Content_Type="application/json")
        if match is None:
            return error(404, "NAME_UNKNOWN")
        match match["kind"]:
            case "manifests":
                return await self._manifest(request, name, match["what"])
            case "blobs/uploads":
                return await self._upload(request, name, match["what"])
            case "blobs":
                return self._blob(request, name, match["what"])
            case _:
                return self._tags(request, name)

    # Who may ask.

    def _check(self, request: web.BaseRequest, name: str) -> Reply | None:
        header = request.headers.get("Authorization", "")
        if self.users is not None:
            user, password = decode_basic(header)
            if password and self.users.get(user) == password:
                return None
            challenge = self.challenge or 'Basic realm="fake"'
            return error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        if self.tokens is None:
            return None
        action = "pull" if request.method in ("GET", "HEAD") else "push"
        scheme, _, token = header.partition(" ")
        granted = self.tokens.issued.get(token) if scheme.lower() == "bearer" else None
        if granted is not None and (not name or _covers(granted, name, action)):
            return None
        scope = f',scope="repository:{name}:{action}"' if name else ""
        failed = ',error="insufficient_scope"' if granted is not None else ""
        realm = f'realm="{self.tokens.url}/token",service="fake"'
        challenge = self.challenge or f"Bearer {realm}{scope}{failed}"
        return error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

    # What there is.

    async def _manifest(self, request: web.BaseRequest, name: str, target: str) -> Reply:
        if request.method == "PUT":
            raw = await read_all(request)
            tag = "" if ":" in target else target
            digest = self.add_manifest(name, tag, raw, request.headers["Content-Type"])
            return reply(
                201, Docker_Content_Digest=digest, Location=f"/v2/{name}/manifests/{digest}"
            )
        repository = self.repositories.get(name, Repository())
        if target not in repository.manifests:
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, raw = repository.manifests[target]
        return reply(200, raw, Content_Type=media_type, Docker_Content_Digest=digest_of(raw))

    def _blob(self, request: web.BaseRequest, name: str, digest: str) -> Reply:
        content = self.repositories.get(name, Repository()).blobs.get(digest)
        if content is None:
            return error(404, "BLOB_UNKNOWN")
        if self.cdn is not None:
            return reply(307, Location=self.cdn.location(digest))
        return serve_range(request, content, digest)

    def _tags(self, request: web.BaseRequest, name: str) -> Reply:
        if name not in self.repositories:
            return error(404, "NAME_UNKNOWN")
        query = parse_qs(request.rel_url.raw_query_string)
        tags = sorted(self.repositories[name].tags)
        last = query.get("last", [""])[0]
        rest = [tag for tag in tags if tag > last]
        size = self.page or len(rest)
        page = rest[:size]
        answer = reply(
            200, json.dumps({"name": name, "tags": page}), Content_Type="application/json"
        )
        if len(page) < len(rest):
            answer.headers["Link"] = f'</v2/{name}/tags/list?n={size}&last={page[-1]}>; rel="next"'
        return answer

    # What is pushed.

    async def _upload(self, request: web.BaseRequest, name: str, session: str) -> Reply:
        query = parse_qs(request.rel_url.raw_query_string)
        body = await read_all(request)
        if request.method == "POST":
            return self._begin(name, query)
        if session not in self._uploads:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "DELETE":
            del self._uploads[session]
            return reply(204)
        held = self._uploads[session]
        place = {"Location": _location(name, session), "Range": f"0-{max(len(held) - 1, 0)}"}
        if request.method == "GET":
            return reply(204, **place)
        wanted = request.headers.get("Content-Range")
        if wanted is not None and wanted != f"{len(held)}-{len(held) + len(body) - 1}":
            return reply(416, **place)
        self._uploads[session] = held + body
        if request.method == "PATCH":
            return reply(202, **(place | {"Range": f"0-{len(held) + len(body) - 1}"}))
        return self._finish(name, session, query["digest"][0])

    def _begin(self, name: str, query: dict[str, list[str]]) -> Reply:
        if self.mounts and "mount" in query:
            digest, source = query["mount"][0], query["from"][0]
            content = self.repositories.get(source, Repository()).blobs.get(digest)
            if content is not None:
                self.add_blob(name, content)
                return reply(201, Location=f"/v2/{name}/blobs/{digest}")
        session = f"s{len(self.requests)}"
        self._uploads[session] = b""
        return reply(202, Location=_location(name, session), Range="0-0")

    def _finish(self, name: str, session: str, digest: str) -> Reply:
        content = self._uploads.pop(session)
        if digest_of(content) != digest:
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.add_blob(name, content)
        return reply(201, Location=f"/v2/{name}/blobs/{digest}")

    @property
    def open_uploads(self) -> int:
        """Sessions that were neither finished nor given back."""
        return len(self._uploads)


async def read_all(request: web.BaseRequest) -> bytes:
    """The body of a request; ``request.read`` has a limit of 1 MiB."""
    return b"".join([piece async for piece in request.content.iter_any()])


def serve_range(request: web.BaseRequest, content: bytes, counted_as: str) -> Reply:
    """Content, or the one range of it that is asked for."""
    common = {"Content_Type": "application/octet-stream", "Accept_Ranges": "bytes"}
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if match is None:
        answer = reply(200, content, **common)
    elif int(match[1]) >= len(content):
        return reply(416, Content_Range=f"bytes */{len(content)}")
    else:
        start = int(match[1])
        stop = min(int(match[2]) + 1, len(content)) if match[2] else len(content)
        sent = f"bytes {start}-{stop - 1}/{len(content)}"
        answer = reply(206, content[start:stop], Content_Range=sent, **common)
    answer.counted_as = counted_as
    return answer


def _location(name: str, session: str) -> str:
    # A state that is as fragile as the real ones: it must come back exactly as it is.
    return f"/v2/{name}/blobs/uploads/{session}?_state=a%2Fb%2Bc%3D%3D"


def _covers(granted: set[str], name: str, action: str) -> bool:
    for scope in granted:
        kind, _, rest = scope.partition(":")
        wanted, _, actions = rest.rpartition(":")
        if (kind, wanted) == ("repository", name) and action in actions.split(","):
            return True
    return False
