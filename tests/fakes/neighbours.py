"""Other nodes, scripted: they give bytes of their own; the rest is the registry's to give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from cache.content import Digest
from cache.ingest import Ingest
from registryd.cluster_ports import Errand
from registryd.oci.reference import Reference
from registryd.ports import Inflow
from registryd.secrets import Secret


class ScriptedInflow:
    """Brings ``theirs`` from other nodes, by offset, and the rest from the registry."""

    source = "other nodes"
    received = 0

    def __init__(
        self, errand: Errand, ingest: Ingest, theirs: Mapping[int, bytes], whole: bool
    ) -> None:
        self.whole = whole
        self.rested = 0
        self.demands: list[tuple[int, int]] = []
        self._errand = errand
        self._ingest = ingest
        self._theirs = theirs

    @property
    def complete(self) -> bool:
        return self._ingest.held.total == self._ingest.size

    async def run(self, wanted: Callable[[], bool]) -> None:
        self._ingest.announce(self._errand.size)
        for offset, content in self._theirs.items():
            await self._ingest.write(offset, [content], checked=False)
            self._ingest.check(offset, offset + len(content))
        for start, stop in self._ingest.held.missing(0, self._errand.size):
            await self._errand.from_registry(start, stop)

    @contextmanager
    def demand(self, start: int, stop: int) -> Iterator[None]:
        self.demands.append((start, stop))
        yield

    def bring_whole(self) -> None:
        self.whole = True

    def rest(self) -> None:
        self.rested += 1


class ScriptedNeighbours:
    """ports.Neighbours: ``blobs`` is what they give of each blob, ``manifests`` what they have."""

    def __init__(self) -> None:
        self.others = True
        self.blobs: dict[Digest, dict[int, bytes]] = {}
        self.manifests: dict[Digest, tuple[bytes, str]] = {}
        self.errands: list[Errand] = []
        self.inflows: list[ScriptedInflow] = []
        self.asked: list[tuple[str, Secret | None]] = []
        self.wrong: list[Digest] = []

    def inflow(self, errand: Errand, ingest: Ingest, *, whole: bool) -> Inflow | None:
        self.errands.append(errand)
        if errand.digest not in self.blobs:
            return None
        self.inflows.append(ScriptedInflow(errand, ingest, self.blobs[errand.digest], whole))
        return self.inflows[-1]

    async def manifest(
        self, exact: Reference, token: Secret | None, *, refused: bool = False
    ) -> tuple[bytes, str] | None:
        self.asked.append((str(exact), token))
        return None if exact.digest is None else self.manifests.get(exact.digest)

    async def misled(self, digest: Digest) -> None:
        self.wrong.append(digest)
