"""Who is a member now, and who wants to be told of it. No clock, no network.

Invariants:
- names are unique; the members come in the order of their names, n2 before n10;
- a watcher is told of each join and each leave once, in their order, and never of this node;
- a watcher is told after the members have changed, so it sees them as they are now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from registryd.cluster_ports import ClusterNode
from registryd.hostlist import natural_order

Joined = Callable[[ClusterNode], None]
Left = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node tells of itself: its uploads under way, the bytes free on its disk."""

    load: int = 0
    free: int | None = None
    version: str = ""


class Members:
    """The members as this node sees them; ``me`` is its own name among them."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._nodes: dict[str, ClusterNode] = {}
        self._order: tuple[str, ...] | None = None
        self._watchers: list[tuple[Joined, Left]] = []

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def find(self, name: str) -> ClusterNode | None:
        """A member by its name."""
        return self._nodes.get(name)

    def all(self) -> tuple[ClusterNode, ...]:
        """Everyone, in the order of their names."""
        if self._order is None:
            self._order = tuple(sorted(self._nodes, key=natural_order))
        return tuple(self._nodes[name] for name in self._order)

    def put(self, node: ClusterNode) -> None:
        """Take in a member, or what is new of one."""
        known = node.name in self._nodes
        self._nodes[node.name] = node
        if known:
            return
        self._order = None
        if node.name != self._me:
            for joined, _ in tuple(self._watchers):
                joined(node)

    def remove(self, name: str) -> None:
        """Let a member go; one that is not there has gone already."""
        if self._nodes.pop(name, None) is None:
            return
        self._order = None
        if name != self._me:
            for _, left in tuple(self._watchers):
                left(name)

    def watch(self, joined: Joined, left: Left) -> None:
        """Tell of everyone who is here, and from now on of who joins and leaves."""
        self._watchers.append((joined, left))
        for node in self.all():
            if node.name != self._me:
                joined(node)
