"""An image as an ext4 file system, to be read: extents, no journal, no room left.

Invariants:
- the same plan gives the same bytes, whoever makes them: its identifier is made of what is in it;
- every byte is written once, at its place: the layers are read as they come, and nothing is
  unpacked, mounted or held in memory but the names;
- holes of files are holes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from registryd.images.errors import NotMade
from registryd.images.filesystems import ext4_records as records
from registryd.images.filesystems.ext4_records import Attributes, Extent, Inode, Shape
from registryd.images.filesystems.nodes import BLOCK, Node, Nodes
from registryd.images.filesystems.writing import At, file_into, opened
from registryd.images.layers.contents import Opener, each_file
from registryd.images.layers.headers import BLOCKS, CHARACTER, FILE, SYMLINK
from registryd.images.layers.plan import Plan
from registryd.images.layers.stream import kept

#: Inodes that are made and written at once: 4 MiB of them.
_BATCH: Final = 16_384
_FILE_LIMIT: Final = BLOCK << 32
_SECTORS: Final = BLOCK // 512
_SECOND: Final = 10**9
_TIME_LIMIT: Final = 2**32 - 1
_NONE: Final = Attributes(b"", b"")


def make_ext4(plan: Plan, openers: Sequence[Opener], where: str, path: Path) -> None:
    """Write it into a file that is there and empty; not to disk.

    Raises NotMade, NotAnImage, DiskFull, PathUnusable.
    """
    image = _Image(plan)
    with opened(path) as out:
        image.write(out, openers, where)


class _Image:
    """A file system: where everything goes is known before the first byte is written."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.nodes = Nodes(plan)
        self.nodes.check_links(records.LINKS_LIMIT, "ext4")
        self.attributes = {
            node.number: records.attributes(pairs)
            for node in self.nodes.all
            if (pairs := kept(node.entry.xattrs))
        }
        self.attributes_at: dict[int, int] = {}
        self.folder_blocks = {
            node.number: sum(1 for _ in self._folder(node))
            for node in self.nodes.all
            if node.is_folder
        }
        self.shape = self._placed()

    def write(self, out: At, openers: Sequence[Opener], where: str) -> None:
        """Write everything. Raises NotAnImage, PathUnusable, OSError."""
        shape, summed = self.shape, hashlib.sha256()
        out.resize(shape.blocks * BLOCK)
        self._write_nodes(out, summed.update)
        for named, pieces in each_file(self.plan, openers, where):
            extents = self._extents(self.nodes.by_path[named.path])
            file_into(
                out, pieces, [(BLOCK * e.first, BLOCK * e.length, BLOCK * e.at) for e in extents]
            )
        folders = [0] * shape.groups
        for node in self.nodes.all:
            if node.is_folder:
                folders[(_inode_of(node) - 1) // shape.per_group] += 1
        out.put(shape.bitmaps * BLOCK, records.bitmaps(shape))
        out.put(BLOCK, records.group_list(shape, folders))
        made = min(max(self.plan.folders[0].entry.mtime // _SECOND, 0), _TIME_LIMIT)
        out.put(0, records.superblock(shape, summed.digest()[:16], made))

    def _placed(self) -> Shape:
        """Give each node its blocks: first what says where things are, then files as they come."""
        at = 0
        for node in self.nodes.all:
            if node.size > _FILE_LIMIT:
                raise NotMade("a file is larger than the 16 TiB that ext4 takes")
            found = self.attributes.get(node.number, _NONE)
            if found.block:
                self.attributes_at[node.number] = at
                at += 1
            node.more = at
            at += records.tree_blocks(sum(1 for _ in self._extents(node)))
            if node.entry.kind != FILE:
                node.at = at
                at += sum(count for _, count in self._stretches(node))
        for node in self.nodes.all:
            if node.entry.kind == FILE:
                node.at = at
                at += sum(count for _, count in node.stretches)
        shape = records.shape(records.FIRST - 2 + len(self.nodes.all), at)
        for node in self.nodes.all:
            node.at += shape.first
            node.more += shape.first
        self.attributes_at = {
            number: place + shape.first for number, place in self.attributes_at.items()
        }
        return shape

    def _stretches(self, node: Node) -> Iterator[tuple[int, int]]:
        """Blocks of a node that hold something."""
        if node.is_folder:
            yield 0, self.folder_blocks[node.number]
        elif node.entry.kind == SYMLINK:
            if len(node.entry.link) > records.SHORT_LINK:
                yield 0, 1
        else:
            yield from node.stretches

    def _extents(self, node: Node) -> Iterator[Extent]:
        """Where the blocks of a node lie: one after another."""
        at = node.at
        for first, count in self._stretches(node):
            for done in range(0, count, records.EXTENT_LIMIT):
                part = min(count - done, records.EXTENT_LIMIT)
                yield Extent(first + done, part, at)
                at += part

    def _folder(self, node: Node) -> Iterator[bytes]:
        every = self.nodes.all
        listed = ((name, _inode_of(every[at]), every[at].entry.kind) for name, at in node.names)
        return records.folder_blocks(listed, _inode_of(node), _inode_of(every[node.parent]))

    def _write_nodes(self, out: At, told: Callable[[bytes], object]) -> None:
        """Inodes, folders, links, attributes, and files that are in no layer."""
        reserved = bytes(records.INODE_SIZE)
        batch, first = [reserved] * (records.FIRST - 1), 0
        for node in self.nodes.all:
            made = self._inode(node, out, told)
            if node.number:
                batch.append(made)
            else:
                batch[records.ROOT - 1] = made
            if len(batch) == _BATCH or node is self.nodes.all[-1]:
                content = b"".join(batch)
                told(content)
                # The tables of the groups lie one after another, as if they were one.
                out.put(self.shape.tables * BLOCK + first * records.INODE_SIZE, content)
                first += len(batch)
                batch = []

    def _inode(self, node: Node, out: At, told: Callable[[bytes], object]) -> bytes:
        """The inode of a node; what else is its own and in no layer is written."""
        entry, number = node.entry, node.number
        extents = list(self._extents(node))
        size, content, blocks = node.size, node.content, b""
        if node.is_folder:
            content = b"".join(self._folder(node))
            size = len(content)
        elif entry.kind == SYMLINK:
            content, size = entry.link, len(entry.link)
        by_extents = node.is_folder or entry.kind == FILE or bool(extents)
        if by_extents:
            blocks, tree = records.extent_tree(extents, node.more)
            out.put(node.more * BLOCK, tree)
        elif entry.kind == SYMLINK:
            blocks = content.ljust(60, b"\0")
        elif entry.kind in (CHARACTER, BLOCKS):
            blocks = records.device(entry)
        if extents and content:
            told(content)
            out.put(node.at * BLOCK, content)
        attributes = self.attributes.get(number, _NONE)
        place = self.attributes_at.get(number, 0)
        if attributes.block:
            told(attributes.block)
            out.put(place * BLOCK, attributes.block)
        used = (
            sum(each.length for each in extents) + records.tree_blocks(len(extents)) + bool(place)
        )
        more = Inode(node.links, size, used * _SECTORS, blocks, by_extents, attributes, place)
        return records.inode(entry, more)


def _inode_of(node: Node) -> int:
    """The number that a node has in the file system."""
    return records.FIRST - 1 + node.number if node.number else records.ROOT
