"""What a transfer asks of the other nodes of a cluster: who they are, who holds what, and help."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from cache.content import Digest
from cache.ingest import Ingest
from registryd.oci.reference import Reference
from registryd.ports import Inflow
from registryd.secrets import Secret


@dataclass(frozen=True, slots=True)
class Errand:
    """A blob to be brought with the help of other nodes: ``size`` in bytes.

    ``from_registry(start, stop)`` brings these bytes from the blob's registry into its ingest, as
    an Inflow would (it resumes and tries again); cancelled, it keeps what came. ``token`` is what
    another node may show to that registry for us.
    """

    repository: Reference
    digest: Digest
    size: int
    from_registry: Callable[[int, int], Awaitable[None]]
    token: Callable[[], Awaitable[Secret | None]]
    #: Another node has made it: ``from_registry`` brings it from there, and no registry has it.
    made: bool = False


class Neighbours(Protocol):
    """The other nodes, as a transfer sees them."""

    @property
    def others(self) -> bool:
        """Whether anybody else is there now."""

    def inflow(self, errand: Errand, ingest: Ingest, *, whole: bool) -> Inflow | None:
        """What brings a blob from them and from its registry; None when nobody else is there."""

    async def manifest(
        self, exact: Reference, token: Secret | None, *, refused: bool = False
    ) -> tuple[bytes, str] | None:
        """A manifest by its digest from the node that answers for it: its bytes, and media type.

        Proven against the digest. None when it has to come from its registry. With ``refused`` that
        has not given it, now: several nodes are asked, one of which may have it, or get it.
        """

    async def misled(self, digest: Digest) -> None:
        """Find out who lied: a blob that came out wrong is here now, from its registry alone."""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A member of the cluster as the others see it.

    ``url`` is where it answers (``https://HOST:PORT``), ``load`` its uploads under way, ``free``
    the bytes free on its disk, ``heard`` the seconds since it was heard of; None: not known.
    """

    name: str
    url: str
    zone: str = ""
    version: str = ""
    load: int | None = None
    free: int | None = None
    heard: float | None = None


class Cluster(Protocol):
    """Who the other nodes are, and who of them holds what. No call here waits for long."""

    @property
    def me(self) -> str:
        """This node's name among them; "" where there is no cluster."""

    @property
    def kind(self) -> str:
        """``none``, ``static`` or ``nats``."""

    @property
    def connected(self) -> bool:
        """Whether news of members can come now (always, where none is expected)."""

    def nodes(self) -> tuple[ClusterNode, ...]:
        """All members in the order of their names, this one too."""

    def find(self, name: str) -> ClusterNode | None:
        """A member by its name."""

    def watch(self, joined: Callable[[ClusterNode], None], left: Callable[[str], None]) -> None:
        """Be told who joins and leaves from now on; at once of those who are there, but for us."""

    def holds(self, digest: Digest, *, size: int, whole: bool) -> None:
        """Say that this node has a blob, or (``whole`` False) that it is on its way here."""

    def lets_go(self, digest: Digest) -> None:
        """Say that a blob is not here any more."""

    async def holders(self, digest: Digest) -> tuple[tuple[str, bool], ...]:
        """Some of the other nodes that have a blob: their names, and whether they have it whole.

        Empty where nobody has it, or nobody can be asked; in at most a quarter of a second.
        """
