"""Conversions by other nodes: an image is made one file by one node of the cluster, for all.

docs/peers.md has the protocol. Invariants:
- who makes it is the node that ranks first by rendezvous hash of image and recipe, as the asker
  sees the cluster; who is asked makes it itself and asks nobody: no circle comes of nodes that see
  different members;
- what comes back says of itself that it is of this image by this recipe, or is refused. That it is
  true is the maker's word: other nodes are believed here, or are not asked (``[convert] share``);
- a node that fails or is gone costs its asker the next one, and in the end its own work.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cache.content import Digest
from cache.errors import Fault
from registryd.cluster.errors import PeerCut, PeerFault, PeerWrong
from registryd.cluster.geometry import Geometry
from registryd.cluster.peer_client import ChunkAsk
from registryd.cluster.placement import blob_key
from registryd.cluster_ports import ClusterNode
from registryd.conversion.recipe import ARTIFACT_TYPE, RECIPE, Recipe
from registryd.oci.errors import BadAnswer
from registryd.oci.manifest import Document, Manifest, parse
from registryd.oci.reference import Reference
from registryd.ports import Body, Remote, TransportError
from registryd.secrets import Secret

if TYPE_CHECKING:
    from registryd.cluster.company import Company
    from registryd.cluster.peer_lines import PeerLines

#: Where a node is asked to convert.
PATH: Final = "/peer/v1/conversions"
#: How many nodes are asked, one after the other.
ASKED: Final = 2
#: Seconds that getting a token for them may take.
TOKEN_PATIENCE: Final = 3.0
#: Seconds to wait where a node's answer says that all its upload slots are busy.
_PAUSE: Final = 0.25
#: Redirects that are followed for one chunk, and one.
_HOPS: Final = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The manifest of what a node has made, and that node."""

    document: Manifest
    node: ClusterNode


class Elsewhere:
    """The other nodes, as conversions see them."""

    def __init__(self, company: Company, lines: PeerLines) -> None:
        self._company = company
        self._lines = lines

    async def made(
        self,
        remote: Remote | None,
        reference: Reference,
        manifest: Manifest,
        recipe: Recipe,
        tell: Callable[[int, int], None],
        *,
        able: bool = True,
    ) -> Found | None:
        """What another node has made, or makes now; None where it is for this one to make.

        A node that is not ``able`` to asks on where it would be its own turn.
        """
        company = self._company
        if not company.others:
            return None
        key, token = _key(manifest.digest, recipe), None
        for name in company.placement.ranked(key, 0, ASKED if able else ASKED + 1):
            node = company.cluster.find(name)
            if name == company.me and able:
                return None
            if (
                node is None
                or name == company.me
                or not company.peers.usable(name, company.clock())
            ):
                continue
            token = token or await _token(remote, reference)
            asked = {
                "repository": reference.name,
                "manifest": str(manifest.digest),
                "recipe": str(recipe),
            }
            try:
                document = await self._ask(node, json.dumps(asked).encode(), token, tell)
                return Found(_checked(document, manifest, recipe, name), node)
            except Fault as fault:
                _log.warning(
                    "not converted elsewhere: node=%s digest=%s cause=%s",
                    name, manifest.digest, fault,
                )  # fmt: skip
        return None

    async def _ask(
        self,
        node: ClusterNode,
        body: bytes,
        token: Secret | None,
        tell: Callable[[int, int], None],
    ) -> Document:
        """The manifest that a node answers with in the end. Raises Fault."""
        async with self._lines.lines(node, PATH, body, token) as lines:
            async for line in lines:
                try:
                    said = json.loads(line)
                    if "manifest" in said:
                        return parse(str(said["manifest"]).encode())
                    if "failed" in said:
                        raise PeerWrong(f"peer {node.name}: {str(said['failed'])[:300]}")
                    tell(int(said["offset"]), int(said["total"]))
                except (ValueError, TypeError, LookupError, RecursionError) as error:
                    raise PeerWrong(f"peer {node.name}: it answered {line[:60]!a}") from error
        raise PeerCut(f"peer {node.name}: it broke off in the middle")

    def fetcher(self, found: Found) -> MadeElsewhere:
        """The way to what a node has made."""
        return MadeElsewhere(self._company, found)


def _key(manifest: Digest, recipe: Recipe) -> int:
    return blob_key(Digest.of(f"{manifest} {recipe}".encode()))


async def _token(remote: Remote | None, reference: Reference) -> Secret | None:
    """What the other node may show to the image's registry for us."""
    if remote is not None:
        with suppress(Fault, TimeoutError):  # who holds the image needs none
            async with asyncio.timeout(TOKEN_PATIENCE):
                return await remote.pull_token(reference)
    return None


def _checked(document: Document, manifest: Manifest, recipe: Recipe, node: str) -> Manifest:
    """A manifest that says that it is what was asked for. Raises PeerWrong."""
    if (
        isinstance(document, Manifest)
        and document.artifact_type == ARTIFACT_TYPE
        and document.subject == manifest.descriptor
        and document.annotations.get(RECIPE) == str(recipe)
        and [layer.media_type for layer in document.layers] == [recipe.media_type]
    ):
        return document
    raise PeerWrong(f"peer {node}: it answered what is no conversion of {manifest.digest}")


class MadeElsewhere:
    """A ``ports.Fetcher`` of one blob: what a node has made, by its chunks."""

    def __init__(self, company: Company, found: Found) -> None:
        self._company = company
        self._node = found.node
        self._blob = found.document.layers[0]

    async def fetch_manifest(self, reference: Reference) -> Document:
        """Nothing of the kind is to be had here. Raises BadAnswer."""
        raise BadAnswer(f"{reference} is not fetched from {self._node.name}")

    @asynccontextmanager
    async def fetch_blob(
        self, repository: Reference, digest: Digest, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[Body]:
        """The bytes from ``start`` up to ``stop``. Its body raises TransportError."""
        end = self._blob.size if stop is None else min(stop, self._blob.size)
        yield _Chunks(self._company, self._node, repository, digest, self._blob.size, start, end)

    async def blob_size(self, repository: Reference, digest: Digest) -> int | None:
        """Its size, which the node's manifest says."""
        return self._blob.size

    def distrust(self, repository: Reference, digest: Digest) -> bool:
        """Nobody else can be asked."""
        return False

    async def pull_token(self, repository: Reference) -> Secret | None:
        """None: no registry has it."""
        return None


class _Chunks:
    """A stretch of a blob from one node, chunk by chunk."""

    def __init__(
        self,
        company: Company,
        node: ClusterNode,
        repository: Reference,
        digest: Digest,
        size: int,
        start: int,
        stop: int,
    ) -> None:
        self.start = start
        self.stop: int | None = stop
        self.total: int | None = size
        self.source = node.name
        self._company = company
        self._node = node
        self._repository = repository
        self._digest = digest
        self._geometry = Geometry(size)
        self._end = stop

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at = self.start
        for chunk in self._geometry.covering(at, self._end):
            try:
                async for piece in self._chunk(chunk, at):
                    piece = piece[: self._end - at]
                    at += len(piece)
                    yield piece
                    if at == self._end:
                        return
            except PeerFault as fault:
                raise TransportError(str(fault)) from fault

    async def _chunk(self, chunk: int, at: int) -> AsyncIterator[bytes]:
        """The rest of a chunk from its maker, or from whom that has served it to."""
        company, node, status = self._company, self._node, 0
        for hops in range(_HOPS):
            async with company.client.chunk(node, self._asked(chunk, at, hops)) as answer:
                if answer.status == 206:
                    async for piece in answer:
                        company.counts.received += len(piece)
                        yield piece
                    return
                status, next_ = answer.status, company.cluster.find(answer.to or "")
            if status != 307 or next_ is None:
                break
            node = next_
        if status in (307, 503):
            await asyncio.sleep(_PAUSE)  # its slots are busy: it says so at once
        raise TransportError(f"peer {node.name}: it answered {status} for a chunk")

    def _asked(self, chunk: int, at: int, hops: int) -> ChunkAsk:
        return ChunkAsk(
            repository=self._repository.name,
            digest=self._digest,
            start=at,
            stop=self._geometry.span(chunk)[1],
            size=self._geometry.size,
            hops=hops,
            free=self._company.line.free,
            owed=True,
            made=True,
        )
