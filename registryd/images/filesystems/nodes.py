"""A plan as nodes: each file once, however many names it has, and the names in each folder.

Invariants:
- the first node is the top; a folder comes before what is in it;
- the same plan gives the same nodes in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from registryd.images.errors import NotMade
from registryd.images.layers.headers import FILE, FOLDER, Entry
from registryd.images.layers.plan import Plan

#: Both file systems count in blocks of this size, which every machine's memory has.
BLOCK: Final = 4096


class Node:
    """A file: ``names`` leads to other nodes by their place, for a folder; ``links`` are its own.

    ``content`` are the bytes of a file that is in no layer. Where it lies is told later: ``at`` is
    its first block, ``more`` the first of the blocks that say where the others are.
    """

    __slots__ = ("at", "content", "entry", "links", "more", "names", "number", "parent")

    def __init__(self, number: int, entry: Entry, content: bytes = b"") -> None:
        self.number = number
        self.entry = entry
        self.content = content
        self.links = 1
        self.names: list[tuple[bytes, int]] = []
        self.parent = 0
        self.at = 0
        self.more = 0

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.entry.kind == FOLDER

    @property
    def size(self) -> int:
        """How many bytes a file has."""
        return self.entry.size if self.entry.kind == FILE else 0

    @property
    def stretches(self) -> Iterator[tuple[int, int]]:
        """Blocks of a file that hold something: the first, and how many. Between them are holes."""
        holes = self.entry.holes
        stored = ((0, self.size),) if holes is None else holes.stored
        first = end = 0
        for offset, count in stored:
            begins, ends = offset // BLOCK, -(-(offset + count) // BLOCK)
            if begins > end:
                if end > first:
                    yield first, end - first
                first = begins
            end = max(end, ends)
        if end > first:
            yield first, end - first


class Nodes:
    """All nodes of a plan, and where each path is."""

    def __init__(self, plan: Plan) -> None:
        self.all: list[Node] = []
        self.by_path: dict[bytes, Node] = {}
        for named in (*plan.folders, *plan.others):
            self._add(named.path, Node(len(self.all), named.entry))
        for named, content in plan.extras:
            self._add(named.path, Node(len(self.all), named.entry, content))
        for layer in plan.files:
            for named in layer:
                self._add(named.path, Node(len(self.all), named.entry))
        for path, first in plan.links:
            node = self.by_path[first]
            node.links += 1
            self._name(path, node)
        for node in self.all:
            node.names.sort()

    def _add(self, path: bytes, node: Node) -> None:
        self.all.append(node)
        self.by_path[path] = node
        if node.is_folder:
            node.links += 1
        if path:
            self._name(path, node)

    def _name(self, path: bytes, node: Node) -> None:
        above, _, name = path.rpartition(b"/")
        folder = self.by_path[above]
        folder.names.append((name, node.number))
        if node.is_folder:
            node.parent = folder.number
            folder.links += 1

    def check_links(self, limit: int, what: str) -> None:
        """Raise NotMade where a file has more names than a file system takes."""
        for node in self.all:
            if not node.is_folder and node.links > limit:
                raise NotMade(f"a file has {node.links} names, and {what} takes {limit}")
