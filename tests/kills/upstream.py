"""The registry behind: Debian's docker-registry, and before it a door that counts and slows.

What is sent through the door is counted by digest, so that it is seen what is fetched twice.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from tests.fakes.http import FakeServer, Reply
from tests.fakes.ranges import read_all
from tests.fakes.values import OCI_MANIFEST, digest_of
from tests.images.layers.trees import layer, member
from tests.real.cluster import push_layers
from tests.real.registry import RealRegistry, open_registry
from tests.real.stories import in_thread

#: Bytes of the large layer, and of one piece in which a slow host sends it.
LARGE, PIECE = 1_500_000, 96 << 10
#: Seconds between two pieces.
PACE = 0.004
_BLOB = re.compile(r"GET /v2/.*/blobs/(sha256:[0-9a-f]{64})")
_KEPT = ("Content-Type", "Docker-Content-Digest", "Location", "Range", "Content-Range",
         "Docker-Upload-UUID", "Accept-Ranges")  # fmt: skip


class Door(FakeServer):
    """Sends on what it is asked to a registry, and counts what comes back."""

    def __init__(self, registry: RealRegistry) -> None:
        super().__init__()
        self._registry = registry
        self.slow("GET .*/blobs/", lambda: asyncio.sleep(PACE), PIECE, None)

    @property
    def behind(self) -> str:
        """Host and port of the registry itself."""
        return self._registry.name

    async def respond(self, request: web.BaseRequest) -> Reply:
        body = await read_all(request)
        return await asyncio.to_thread(self._send_on, request, body)

    async def _send(self, request: web.BaseRequest, answer: Reply) -> web.StreamResponse:
        try:
            return await super()._send(request, answer)
        except ConnectionError:
            return web.Response()  # whoever asked has been killed

    def _send_on(self, request: web.BaseRequest, body: bytes) -> Reply:
        headers = {"Host": self.name}
        for name in ("Accept", "Content-Type", "Content-Range", "Range"):
            if name in request.headers:
                headers[name] = request.headers[name]
        with closing(http.client.HTTPConnection(self._registry.name, timeout=30)) as onward:
            onward.request(request.method, request.raw_path, body or None, headers)
            answer = onward.getresponse()
            made = Reply(answer.status, answer.read())
        if request.method == "HEAD":
            made.length = int(answer.headers.get("Content-Length", 0))
        for name in _KEPT:
            if name in answer.headers:
                made.headers[name] = answer.headers[name]
        if match := _BLOB.match(f"{request.method} {request.raw_path}"):
            made.counted_as = match[1]
        return made


@dataclass(frozen=True)
class Told:
    """What had been sent at some moment: bytes and requests, by digest."""

    sent: Counter[str]
    asked: Counter[str]


@dataclass
class Upstream:
    """The registry with its images: by their names their blobs, with sizes in bytes."""

    door: Door
    images: dict[str, dict[str, int]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def told(self) -> Told:
        """What has been sent so far."""
        asked = Counter(m[1] for seen in list(self.door.requests) if (m := _BLOB.match(seen.line)))
        return Told(Counter(self.door.sent), asked)

    def content(self, name: str, digest: str) -> bytes:
        """A blob, as the registry has it."""
        return self._get(f"/v2/{name}/blobs/{digest}")[1]

    def manifest(self, name: str) -> bytes:
        """What an image's tag means there."""
        return self._get(f"/v2/{name}/manifests/1", Accept=OCI_MANIFEST)[1]

    def lacks(self, name: str, digest: str) -> list[str]:
        """What the registry does not have of an image that was pushed, as faults."""
        raw = self.manifest(name)
        if digest_of(raw) != digest:
            return [f"upstream has no {digest}"]
        document = json.loads(raw)
        needed = [document["config"], *document["layers"]]
        return [
            f"upstream has no {each['digest']}"
            for each in needed
            if digest_of(self.content(name, each["digest"])) != each["digest"]
        ]

    def _get(self, path: str, **headers: str) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection(self.door.behind, timeout=30)) as connection:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def forget(self) -> None:
        """Count anew."""
        self.door.requests.clear()
        self.door.sent.clear()


def _tree(name: str, size: int, seed: int) -> bytes:
    return layer(member(name, random.Random(seed).randbytes(size)))


@contextmanager
def upstream(folder: Path) -> Iterator[Upstream]:
    """A registry with images that share layers, one of which is large."""
    base = _tree("base", 60_000, 1)
    with open_registry(folder) as registry:
        behind = Upstream(Door(registry))
        contents: dict[str, Sequence[bytes]] = {
            "a": [base, _tree("a", 20_000, 2)],
            "b": [base, _tree("b", 30_000, 3)],
            "c": [base, _tree("c", LARGE, 4), _tree("d", 10_000, 5)],
        }
        contents |= {f"m{n}": [base, _tree(f"m{n}", 250_000, 10 + n)] for n in range(6)}
        for name, layers in contents.items():
            behind.images[name] = push_layers(registry, name, layers)
            behind.digests[name] = digest_of(behind.manifest(name))
        with in_thread(behind.door):
            yield behind
