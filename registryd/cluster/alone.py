"""No cluster: a node that knows of no other one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cache.content import Digest
from registryd.cluster_ports import ClusterNode


class Alone:
    """The Cluster of a node that has no cluster."""

    me: Final = ""
    kind: Final = "none"
    #: No news is expected.
    connected: Final = True

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Nobody."""
        return ()

    def find(self, name: str) -> ClusterNode | None:
        """None."""
        return None

    def watch(self, joined: Callable[[ClusterNode], None], left: Callable[[str], None]) -> None:
        """There is nobody to tell of."""

    def holds(self, digest: Digest, *, size: int, whole: bool) -> None:
        """There is nobody to be told."""

    def lets_go(self, digest: Digest) -> None:
        """There is nobody to be told."""

    async def holders(self, digest: Digest) -> tuple[tuple[str, bool], ...]:
        """Nobody."""
        return ()
