"""A scripted registry: manifests, blobs, tags, uploads and lists in memory, over real HTTP.

What it does properly is what the distribution specification says. Where registries differ,
``traits`` says how (``tests.fakes.traits``; ``tests.fakes.profiles`` has the registries that people
use), and everything else is a fault that a test asks for (``tests.fakes.http``).
"""

from __future__ import annotations

import re

from aiohttp import web

from tests.fakes.cdn import FakeCdn
from tests.fakes.http import FakeServer, Reply, error, reply
from tests.fakes.listings import Listings
from tests.fakes.manifests import Manifests
from tests.fakes.ranges import read_all, serve_range
from tests.fakes.tokens import FakeTokenServer, decode_basic
from tests.fakes.traits import Traits
from tests.fakes.uploads import Sessions
from tests.fakes.values import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Repository,
    digest_of,
    make_artifact,
    make_image,
    make_index,
)

__all__ = [
    "OCI_CONFIG",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_MANIFEST",
    "FakeCdn",
    "FakeRegistry",
    "Repository",
    "digest_of",
    "error",
    "make_artifact",
    "make_image",
    "make_index",
    "read_all",
    "serve_range",
]

_PATH = re.compile(
    r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs/uploads|blobs|tags|referrers)/(?P<what>.*)"
)
_ROOT = re.compile(r"/v2/?")
_CATALOG = "/v2/_catalog"


class FakeRegistry(FakeServer):
    """The registry. ``users`` makes it want Basic, ``tokens`` Bearer."""

    def __init__(
        self, *, users: dict[str, str] | None = None, tokens: FakeTokenServer | None = None
    ) -> None:
        super().__init__()
        self.repositories: dict[str, Repository] = {}
        self.users = users
        self.tokens = tokens
        #: In place of the challenge that it would make.
        self.challenge = ""
        self.cdn: FakeCdn | None = None
        self.mounts = True
        self.page = 0
        self.traits = Traits()
        self.sessions = Sessions(self)
        self._manifests = Manifests(self)
        self._listings = Listings(self)
        self._refused_token = False

    @property
    def names(self) -> dict[str, str]:
        """What the registry is called in the templates of its traits."""
        other = f"{self.scheme}://localhost:{self.port}"
        return {"url": self.url, "authority": self.name, "other": other}

    @property
    def _uploads(self) -> dict[str, bytes]:
        return self.sessions.held

    @property
    def open_uploads(self) -> int:
        """Sessions that were neither finished nor given back."""
        return len(self.sessions.held)

    def add_blob(self, repository: str, content: bytes, digest: str = "") -> str:
        """Put a blob there, by sha256 or by the digest that is given; its digest."""
        digest = digest or digest_of(content)
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
        refused = self._outside(request) or self._check(request, name)
        if refused is not None:
            await read_all(request)
            return refused
        answer = await self._answer(request, path, match)
        if self.traits.cookies:
            answer.headers["Set-Cookie"] = "sid=1; Path=/"
        return answer

    async def _answer(
        self, request: web.BaseRequest, path: str, match: re.Match[str] | None
    ) -> Reply:
        if _ROOT.fullmatch(path):
            return reply(200, "{}", Content_Type="application/json")
        if path == _CATALOG:
            return self._listings.catalog(request)
        if match is None:
            return error(404, "NAME_UNKNOWN")
        name, what = match["name"], match["what"]
        reads = request.method in ("GET", "HEAD") and match["kind"] != "blobs/uploads"
        if reads and name not in self.repositories and self.traits.manifests.absent != 404:
            return self._absent(name)
        match match["kind"]:
            case "manifests":
                return await self._manifests.respond(request, name, what)
            case "blobs/uploads":
                return await self.sessions.respond(request, name, what)
            case "blobs":
                return self._blob(request, name, what)
            case "referrers":
                return self._listings.referrers(request, name, what)
            case _:
                return self._listings.tags(request, name)

    # Who may ask.

    def _outside(self, request: web.BaseRequest) -> Reply | None:
        """What is wrong with a request whoever makes it."""
        writes = request.method not in ("GET", "HEAD")
        if self.traits.cookies and writes and "Cookie" in request.headers:
            return error(403, "FORBIDDEN", "CSRF token not found in request")
        return None

    def _at_other_host(self, request: web.BaseRequest) -> bool:
        """Whether an upload goes on at another host, where its URL is all the authority needed."""
        foreign = "{other}" in self.traits.uploads.location
        return foreign and request.headers.get("Host", "").startswith("localhost")

    def _check(self, request: web.BaseRequest, name: str) -> Reply | None:
        header = request.headers.get("Authorization", "")
        if self._at_other_host(request):
            return error(400, "INVALID", "Only one auth mechanism allowed") if header else None
        if self.users is not None:
            user, password = decode_basic(header)
            if password and self.users.get(user) == password:
                return None
            challenge = self.challenge or 'Basic realm="fake"'
            return self._unauthorized(challenge, name)
        if self.tokens is None:
            return None
        scheme, _, token = header.partition(" ")
        bearer = scheme.lower() == "bearer"
        if header and not name and self.traits.auth.ping_wants_basic:
            user, password = decode_basic(header)
            if password and self.tokens.users.get(user) == password:
                return None
            return self._unauthorized('Basic realm="fake"', name)
        granted = self.tokens.granted(token) if bearer else None
        if granted is not None and _may(granted, request, name, self.traits.auth.delete):
            return None
        if granted is None and token and self.traits.auth.later_realm:
            self._refused_token = True
        return self._refuse(request, name, token, granted)

    def _refuse(
        self, request: web.BaseRequest, name: str, token: str, granted: set[str] | None
    ) -> Reply:
        auth = self.traits.auth
        if granted is None and token and auth.stale != 401:
            return error(auth.stale, "DENIED", auth.stale_words or "denied")
        if granted is not None and auth.short != 401:
            return error(auth.short, "DENIED", "requested access to the resource is denied")
        action = auth.actions or _action(request, auth.delete)
        failed = granted is not None
        return self._unauthorized(self._bearer(request, name, action, failed=failed), name)

    def _unauthorized(self, challenge: str, name: str) -> Reply:
        if name and not self.traits.auth.challenges:
            return error(401, "UNAUTHORIZED")
        return error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

    def _bearer(
        self, request: web.BaseRequest, name: str, action: str, *, failed: bool = False
    ) -> str:
        """The challenge; ``failed`` says that a token was shown that is good for other things."""
        auth = self.traits.auth
        if self.challenge or self.tokens is None:
            return self.challenge
        wanted = f"repository:{name}:{action}" if name else auth.placeholder
        if request.rel_url.path == _CATALOG:
            wanted = "registry:catalog:*"
        path = auth.later_realm if self._refused_token else auth.realm
        parts = [f'realm="{self.tokens.url}{path}"']
        parts += [f'service="{auth.service}"'] if auth.service is not None else []
        parts += [f'scope="{wanted}"'] if wanted else []
        parts += ['error="insufficient_scope"'] if failed else []
        return f"Bearer {','.join(parts)}"

    def _absent(self, name: str) -> Reply:
        """The answer for a repository that is not there, where that is not told."""
        if self.traits.manifests.absent == 403:
            return error(403, "DENIED", "requested access to the resource is denied")
        realm = self.tokens.url if self.tokens is not None else self.url
        parts = f'realm="{realm}/token",service="fake",scope="repository:{name}:pull"'
        challenge = f'Bearer {parts},error="insufficient_scope"'
        return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)

    # What there is.

    def _blob(self, request: web.BaseRequest, name: str, digest: str) -> Reply:
        traits, blobs = self.traits.blobs, self.repositories.get(name, Repository()).blobs
        content = blobs.get(digest)
        if request.method == "DELETE":
            return self._delete_blob(blobs, digest)
        if content is None:
            return error(404, "BLOB_UNKNOWN")
        if request.method == "HEAD" and traits.head != 200:
            return reply(traits.head)
        if self.cdn is not None:
            return reply(traits.redirect, Location=self.cdn.location(digest))
        answer = serve_range(request, content, digest, traits.ranges)
        if traits.says_digest:
            answer.headers["Docker-Content-Digest"] = digest
        if not traits.says_length:
            answer.length = -1
        if traits.coding:
            answer.headers["Content-Encoding"] = traits.coding
        return answer

    def _delete_blob(self, blobs: dict[str, bytes], digest: str) -> Reply:
        if self.traits.blobs.delete == 405:
            return error(405, "UNSUPPORTED", "deletion is disabled")
        if blobs.pop(digest, None) is None:
            return error(404, "BLOB_UNKNOWN")
        return reply(self.traits.blobs.delete)


def _action(request: web.BaseRequest, delete: str) -> str:
    if request.method == "DELETE":
        return delete
    return "pull" if request.method in ("GET", "HEAD") else "push"


def _may(granted: set[str], request: web.BaseRequest, name: str, delete: str) -> bool:
    """Whether a token for these scopes is enough for a request."""
    if request.rel_url.path == _CATALOG:
        return "registry:catalog:*" in granted
    if not name:
        return True
    action = _action(request, delete)
    for scope in granted:
        kind, _, rest = scope.partition(":")
        wanted, _, actions = rest.rpartition(":")
        given = actions.split(",")
        if (kind, wanted) == ("repository", name) and (action in given or "*" in given):
            return True
    return False
