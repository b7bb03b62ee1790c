"""Fills the small disk it is given and tells on stdout, as JSON, what the store said and kept.

Argument: an empty folder on a file system of about 2 MiB.
"""

import asyncio
import json
import sys
from pathlib import Path

from cache.content import Descriptor, Digest
from cache.errors import DiskFull
from cache.store import BlobStore
from tests.cache.samples import arriving, blobs, entries, layer, noise

KIB = 1 << 10
MIB = 1 << 20


async def main(disk: Path) -> dict[str, object]:
    """Everything that can run out of room, one after the other."""
    said = {}
    async with BlobStore.open(disk / "cache") as store:
        before, kept = layer("before")
        await store.put(before, kept)
        await store.tag("r:before", "r", kept)
        said["ingest"] = await ingest(store)
        said["put"] = await put(store)
        said["left"] = [arriving(store.root), len(blobs(store.root))]
        said["tag"] = await tags(store, disk, kept)
        said["removed"] = await remove(store, disk)
        said["evicted"] = await evict(store, disk)
        after, new = layer("after")
        await store.put(after, new)
        await store.tag("r:after", "r", new)
        said["after"] = (await store.read(new.digest, limit=100)).decode()
    said["names"] = sorted(name for name in entries(disk / "cache") if name.startswith("r:"))
    async with BlobStore.open(disk / "cache") as store:
        said["again"] = len(store)
    return said


async def ingest(store: BlobStore) -> str:
    """A blob larger than the disk, in pieces; given up without being kept."""
    content = noise(8 * MIB)
    arriving = await store.ingest(Digest.of(content), size=len(content))
    try:
        for at in range(0, len(content), 256 * KIB):
            await arriving.write(at, [content[at : at + 256 * KIB]])
    except DiskFull as error:
        await store.abort(arriving, error, discard=True)
        return str(error)
    return "it fitted"


async def put(store: BlobStore) -> str:
    """Small content that is too large for what is left."""
    content = noise(4 * MIB)
    try:
        await store.put(content, Descriptor.of("application/x", content))
    except DiskFull as error:
        return str(error)
    return "it fitted"


async def tags(store: BlobStore, disk: Path, kept: Descriptor) -> str:
    """Names until neither the index nor index.json can grow; with room again, names again."""
    fill(disk)
    said = "they fitted"
    try:
        for at in range(20_000):
            await store.tag(f"{'x' * 200}{at}", "x", kept)
    except DiskFull as error:
        said = str(error)
    (disk / "filler").unlink()
    await store.tag("r:room", "r", kept)
    return said


async def remove(store: BlobStore, disk: Path) -> int:
    """Content that nothing keeps makes room on a disk that is full to the last byte."""
    content = noise(500 * KIB)
    descriptor = Descriptor.of("application/x", content)
    await store.put(content, descriptor)
    fill(disk)
    gone = await store.remove([descriptor.digest])
    (disk / "filler").unlink()
    return sum(gone.values())


async def evict(store: BlobStore, disk: Path) -> list[str]:
    """An image goes at the first try, though index.json cannot be written before it has gone."""
    content = noise(300 * KIB)
    descriptor = Descriptor.of("application/x", content)
    await store.put(content, descriptor)
    await store.tag("r:evicted", "r", descriptor)
    await store._db(lambda: store._index._db.execute("PRAGMA wal_checkpoint").fetchall())
    fill(disk)
    gone = await store.room.collect(1)
    (disk / "filler").unlink()
    return [name for verdict in gone.going for name in verdict.names]


def fill(disk: Path) -> None:
    """Take every byte that is left."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        for size in (64 * KIB, KIB):
            try:
                while filler.write(bytes(size)) == size:
                    pass
            except OSError:
                pass


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
