"""An image as an EROFS file system, not compressed: every byte of a file can be mapped as it lies.

Invariants:
- the same plan gives the same bytes, whoever makes them: its identifier is made of what is in it;
- every byte is written once, at its place: the layers are read as they come, and nothing is
  unpacked, mounted or held in memory but the names;
- a short file, and a short rest of a long one, lie beside their inode; holes of files are holes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registryd.images.errors import NotMade
from registryd.images.filesystems import erofs_records as records
from registryd.images.filesystems.erofs_records import IN_CHUNKS, PLAIN, WITH_REST, Inode
from registryd.images.filesystems.nodes import BLOCK, Node, Nodes
from registryd.images.filesystems.writing import At, file_into, opened
from registryd.images.layers.contents import Opener, each_file
from registryd.images.layers.headers import FILE, SYMLINK
from registryd.images.layers.plan import Plan
from registryd.images.layers.stream import kept

#: Largest rest of a file beside its inode: a larger one wastes more than its own block would.
_REST_LIMIT: Final = 2048
#: Most chunks of a file with holes: a map of 64 KiB.
_CHUNKS_LIMIT: Final = 16_384
_LINKS_LIMIT: Final = 2**32 - 1
_BLOCKS_LIMIT: Final = 2**32 - 2


def make_erofs(plan: Plan, openers: Sequence[Opener], where: str, path: Path) -> None:
    """Write it into a file that is there and empty; not to disk.

    Raises NotMade, NotAnImage, DiskFull, PathUnusable.
    """
    image = _Image(plan)
    with opened(path) as out:
        image.write(out, openers, where)


@dataclass(slots=True)
class _Spot:
    """Where a node lies: its inode (in bytes), attributes, size, and how its bytes lie.

    ``block`` is the first of ``blocks``; ``chunks`` are the blocks of each chunk of a file with
    holes, in chunks of ``1 << bits`` blocks.
    """

    at: int = 0
    attributes: bytes = b""
    size: int = 0
    form: int = PLAIN
    block: int = 0
    blocks: int = 0
    counts: Sequence[int] = ()
    held: Sequence[int] = ()
    bits: int = 0

    @property
    def rest(self) -> int:
        """Bytes beside the inode."""
        return self.size % BLOCK if self.form == WITH_REST else 0

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return -(-self.size // (BLOCK << self.bits)) if self.form == IN_CHUNKS else 0

    @property
    def beside(self) -> int:
        """Where what follows the inode and its attributes begins."""
        return self.at + records.INODE_SIZE + len(self.attributes)

    @property
    def end(self) -> int:
        """Where the next one may begin."""
        return self.beside + self.rest + 4 * self.chunks


class _Image:
    """A file system: where everything goes is known before the first byte is written."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.nodes = Nodes(plan)
        self.nodes.check_links(_LINKS_LIMIT, "EROFS")
        self.spots = [self._shaped(node) for node in self.nodes.all]
        self.blocks = self._placed()

    def write(self, out: At, openers: Sequence[Opener], where: str) -> None:
        """Write everything. Raises NotAnImage, PathUnusable, OSError."""
        out.resize(self.blocks * BLOCK)
        summed = hashlib.sha256()
        for node in self.nodes.all:
            self._write_node(node, out, summed.update)
        for named, pieces in each_file(self.plan, openers, where):
            self._write_file(out, self.nodes.by_path[named.path], pieces)
        content = records.superblock(
            top=self.spots[0].at // records.PLACE,
            inodes=len(self.nodes.all),
            blocks=self.blocks,
            mtime=self.plan.folders[0].entry.mtime,
            identifier=summed.digest()[:16],
            chunks=any(spot.form == IN_CHUNKS for spot in self.spots),
        )
        out.put(1024, content)

    def _shaped(self, node: Node) -> _Spot:
        """How the bytes of a node will lie."""
        spot = _Spot(attributes=records.attributes(kept(node.entry.xattrs)))
        if node.is_folder:
            spot.counts, spot.size = records.folder_shape(name for name, _ in _names(node))
        elif node.entry.kind == SYMLINK:
            spot.size = len(node.entry.link)
        elif node.entry.kind == FILE:
            spot.size = node.size
            if node.entry.holes is not None and spot.size:
                return _in_chunks(spot, node)
        room = BLOCK - records.INODE_SIZE - len(spot.attributes)
        if 0 < spot.size % BLOCK <= min(_REST_LIMIT, room):
            spot.form = WITH_REST
        spot.blocks = (spot.size - spot.rest + BLOCK - 1) // BLOCK
        return spot

    def _placed(self) -> int:
        """Give each node its place: inodes, then folders, then files as they come; all blocks."""
        at = records.FIRST
        for spot in self.spots:
            spot.at = at = _fitting(at, spot)
            at = spot.end + records.PLACE - 1 & -records.PLACE
        block = -(-at // BLOCK)
        for node, spot in zip(self.nodes.all, self.spots, strict=True):
            if node.entry.kind != FILE:
                spot.block, block = block, block + spot.blocks
        for node, spot in zip(self.nodes.all, self.spots, strict=True):
            if node.entry.kind == FILE:
                spot.block, block = block, block + spot.blocks
        if block > _BLOCKS_LIMIT:
            raise NotMade("the image is larger than an EROFS of 16 TiB")
        return block

    def _write_node(self, node: Node, out: At, told: Callable[[bytes], object]) -> None:
        spot = self.spots[node.number]
        where = spot.bits if spot.form == IN_CHUNKS else spot.block
        more = Inode(node.number + 1, node.links, spot.size, spot.form, where, len(spot.attributes))
        record = records.inode(node.entry, more) + spot.attributes
        if spot.form == IN_CHUNKS:
            record += _chunk_map(spot)
        told(record)
        out.put(spot.at, record)
        content = node.content
        if node.is_folder:
            names = [(name, self._place(at), kind) for name, at, kind in self._listed(node)]
            content = b"".join(records.folder_blocks(names, spot.counts))
        elif node.entry.kind == SYMLINK:
            content = node.entry.link
        if content:
            told(content)
            self._write_file(out, node, (content,))

    def _listed(self, node: Node) -> Iterator[tuple[bytes, int, bytes]]:
        """The names of a folder in order, each with its node and kind."""
        every = self.nodes.all
        for name, at in _names(node):
            yield name, at, every[at].entry.kind

    def _place(self, number: int) -> int:
        return self.spots[number].at // records.PLACE

    def _write_file(self, out: At, node: Node, pieces: Iterable[bytes]) -> None:
        spot = self.spots[node.number]
        whole = spot.size - spot.rest
        if spot.form == IN_CHUNKS:
            step = BLOCK << spot.bits
            runs = [(each * step, step, place * BLOCK) for each, place in _chunk_places(spot)]
        else:
            runs = [(0, whole, spot.block * BLOCK)] if whole else []
            if spot.rest:
                runs.append((whole, spot.rest, spot.beside))
        file_into(out, pieces, runs)


def _names(node: Node) -> list[tuple[bytes, int]]:
    """The names of a folder with the two that every one has, in the order of their bytes."""
    return sorted([*node.names, (b".", node.number), (b"..", node.parent)])


def _fitting(at: int, spot: _Spot) -> int:
    """Where an inode may begin: it, and a rest beside it, must not reach over a border."""
    together = spot.end - spot.at if spot.form == WITH_REST else records.INODE_SIZE
    return at if at % BLOCK + together <= BLOCK else at + -at % BLOCK


def _in_chunks(spot: _Spot, node: Node) -> _Spot:
    """A file with holes: which of its chunks hold something."""
    while spot.size > _CHUNKS_LIMIT * BLOCK << spot.bits:
        spot.bits += 1
    spot.form = IN_CHUNKS
    held: dict[int, None] = {}
    for first, count in node.stretches:
        for chunk in range(first >> spot.bits, (first + count - 1 >> spot.bits) + 1):
            held[chunk] = None
    spot.held = tuple(held)
    spot.blocks = len(held) << spot.bits
    return spot


def _chunk_places(spot: _Spot) -> Iterator[tuple[int, int]]:
    """The chunks of a file that hold something, and the block where each begins."""
    for number, chunk in enumerate(spot.held):
        yield chunk, spot.block + (number << spot.bits)


def _chunk_map(spot: _Spot) -> bytes:
    places = [records.HOLE] * spot.chunks
    for chunk, place in _chunk_places(spot):
        places[chunk] = place
    return struct.pack(f"<{len(places)}I", *places)
