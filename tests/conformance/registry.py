"""A client that says what it sends and shows what it gets, and the content it pushes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from cache.content import Digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"


@dataclass(frozen=True)
class Answer:
    """Status, headers (names in lower case) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        """The status and the code of an error body."""
        return self.status, self.json["errors"][0]["code"]

    @property
    def next(self) -> str:
        """Where the next page is, "" where there is none."""
        link = self.headers.get("link", "")
        return link.partition(">")[0].removeprefix("<") if 'rel="next"' in link else ""


def encode(document: object) -> bytes:
    """JSON."""
    return json.dumps(document).encode()


def descriptor(media_type: str, content: bytes, **more: object) -> dict[str, object]:
    """What points to content."""
    return {
        "mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content), **more,
    }  # fmt: skip


class Registry:
    """A registry, by a session that is bound to its address."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request; underscores in header names become dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = io.BytesIO(body) if body is not None else None
        async with self._session.request(method, path, data=data, headers=named) as answer:
            lower = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, lower, await answer.read())

    async def put_blob(self, repository: str, content: bytes, algorithm: str = "sha256") -> Digest:
        """Push a blob in one request."""
        digest = Digest.of(content, algorithm)
        path = f"/v2/{repository}/blobs/uploads/?digest={digest}&digest-algorithm={algorithm}"
        answer = await self.ask("POST", path, content)
        assert answer.status == 201, answer
        return digest

    async def put_manifest(self, repository: str, target: object, manifest: object) -> Answer:
        """Push a manifest (bytes as they are, anything else as JSON)."""
        raw = manifest if isinstance(manifest, bytes) else encode(manifest)
        media_type = json.loads(raw).get("mediaType", OCI_MANIFEST)
        path = f"/v2/{repository}/manifests/{target}"
        return await self.ask("PUT", path, raw, Content_Type=media_type)

    async def image(
        self, repository: str, *layers: bytes, config: bytes = b"{}", **more: Any
    ) -> dict[str, object]:
        """An image manifest whose blobs are pushed."""
        for content in (config, *layers):
            await self.put_blob(repository, content)
        return {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, config),
            "layers": [descriptor(OCI_LAYER, layer) for layer in layers],
            **more,
        }

    async def push(self, repository: str, target: str, *layers: bytes, **more: Any) -> bytes:
        """Push a whole image under a tag, or by digest when that is ""; its manifest."""
        raw = encode(await self.image(repository, *layers, **more))
        answer = await self.put_manifest(repository, target or Digest.of(raw), raw)
        assert answer.status == 201, answer
        return raw


def index_of(*manifests: bytes, **more: object) -> dict[str, object]:
    """An index of these manifests."""
    listed = [descriptor(json.loads(raw)["mediaType"], raw) for raw in manifests]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, **more}
