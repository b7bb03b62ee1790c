"""What kill -9, a torn database and leftovers cost: never content."""

import asyncio
import os
import signal
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from cache.content import Digest
from cache.errors import StoreUnusable
from cache.layout import ingest_key
from cache.schema import MIGRATIONS
from cache.store import BlobStore
from tests.cache.samples import arriving, blobs, entries, layer, noise
from tests.contract.blob_store import CONTENT, DESCRIPTOR, DIGEST, NAME, REPOSITORY, arrive, image

TOP = Path(__file__).resolve().parent.parent.parent
SIZE = 3_000_000
SEED = 5
BLOB = Digest.of(noise(SIZE, SEED))


class Writer:
    """The process that will be killed."""

    def __init__(self, process):
        self._process = process

    async def tell(self, line):
        """Say what to do and wait until it has been done."""
        self._process.stdin.write(f"{line}\n".encode())
        await self.hear("done")

    async def hear(self, word):
        """Wait for its answer."""
        assert f"{word}\n".encode() == await self._process.stdout.readline()

    async def die(self):
        """kill -9."""
        self._process.send_signal(signal.SIGKILL)
        assert -signal.SIGKILL == await self._process.wait()


@asynccontextmanager
async def writer(root):
    """A process that holds the root and writes as told; killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cache.programs.writer", str(root), str(SIZE), str(SEED),
        cwd=TOP, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    child = Writer(process)
    try:
        await child.hear("ready")
        yield child
    finally:
        await child.die()
        process._transport.close()


async def test_what_was_written_before_kill_9_is_held(root):
    """The ranges that were written are held, the others are missing, and the rest is enough."""
    async with writer(root) as child:
        for start, stop in [(0, 1_000_000), (2_000_000, 2_500_000), (900_000, 1_200_000)]:
            await child.tell(f"write {start} {stop}")
    content = noise(SIZE, SEED)
    async with BlobStore.open(root) as store:
        assert store.find(BLOB) is None

        ingest = await store.ingest(BLOB, size=SIZE)
        missing = ingest.held.missing(0, SIZE)

        assert [(1_200_000, 2_000_000), (2_500_000, SIZE)] == missing

        for start, stop in missing:
            await ingest.write(start, [content[start:stop]])
        assert BLOB == await store.commit(ingest)
        assert content == await store.read(BLOB, limit=SIZE)
    assert [] == arriving(root)


async def test_kill_9_twice_costs_no_more(root):
    """A killed resumption is resumed; a torn last line of the journal costs its own range only."""
    async with writer(root) as child:
        await child.tell("write 0 1000000")
    journal = root / "ingest" / f"{ingest_key(BLOB)}.ranges"
    with journal.open("ab") as file:
        file.write(b"1000000 2")
    async with writer(root) as child:
        await child.tell("write 2000000 3000000")
    async with BlobStore.open(root) as store:
        ingest = await store.ingest(BLOB, size=SIZE)

        assert [(1_000_000, 2_000_000)] == ingest.held.missing(0, SIZE)


async def test_kill_9_between_rename_and_row_loses_nothing(root):
    """A blob whose file is in its place and whose row is not is found at the next start."""
    async with writer(root) as child:
        await child.tell("publish")
    with closing(sqlite3.connect(root / "cache.db")) as db:
        assert [] == db.execute("SELECT * FROM blobs").fetchall()
    async with BlobStore.open(root) as store:
        assert SIZE == store.find(BLOB).size
        assert {BLOB: SIZE} == await store.unreferenced()


async def test_kill_9_frees_the_root(root):
    """The lock dies with its process."""
    async with writer(root):
        pass
    async with BlobStore.open(root) as store:
        assert BLOB == await arrive(store, noise(SIZE, SEED))


def garbage(path):
    """No database at all."""
    path.write_bytes(noise(20_000))


def torn(path):
    """The first half of one."""
    os.truncate(path, path.stat().st_size // 2)


def scratched(path):
    """A good first page, and noise behind it."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(noise(path.stat().st_size - 4096))


def shuffled(path):
    """Well-formed pages that contradict one another: one table has what is another's."""
    with closing(sqlite3.connect(path)) as db:
        pages = dict(db.execute("SELECT name, rootpage FROM sqlite_schema"))
    with path.open("r+b") as file:
        file.seek((pages["blobs"] - 1) * 4096)
        page = file.read(4096)
        file.seek((pages["links"] - 1) * 4096)
        file.write(page)


@pytest.mark.parametrize("damage", [garbage, torn, scratched, shuffled])
async def test_a_damaged_database_costs_names_only(root, damage):
    """It is put aside; content is found, names are told to whoever can put them back."""
    async with BlobStore.open(root) as store:
        descriptor, layers = await image(store, "a", "b")
    damage(root / "cache.db")
    async with BlobStore.open(root) as store:
        assert {descriptor.digest, *(each.digest for each in layers)} == blobs(root)
        assert all(store.find(digest) for digest in blobs(root))
        assert [] == await store.names()
        assert [(NAME, descriptor)] == store.lost_names
        assert [NAME] == list(entries(root))
        assert (root / "cache.db.damaged").exists()

        await store.tag(NAME, REPOSITORY, descriptor)
    assert [NAME] == list(entries(root))


async def test_a_deleted_database_costs_names_only(root):
    """As a damaged one; what its neighbours held is not believed."""
    async with BlobStore.open(root) as store:
        descriptor, _ = await image(store, "a")
        for suffix in ("-wal", "-shm"):
            live = root / f"cache.db{suffix}"
            (root / f"kept{suffix}").write_bytes(live.read_bytes())
    (root / "cache.db").unlink()
    for suffix in ("-wal", "-shm"):
        (root / f"kept{suffix}").rename(root / f"cache.db{suffix}")
    async with BlobStore.open(root) as store:
        assert [] == await store.names()
        assert 2 == len(store)
        assert [(NAME, descriptor)] == store.lost_names


async def test_names_are_lost_until_all_are_put_back(root):
    """A process that ends before that leaves index.json as it was, and the rest to the next."""
    async with BlobStore.open(root) as store:
        descriptor, _ = await image(store, "a")
        await store.tag("r:other", "r", descriptor)
    (root / "cache.db").unlink()
    said = entries(root)
    async with BlobStore.open(root) as store:
        assert {NAME, "r:other"} == {name for name, _ in store.lost_names}

        await store.tag(NAME, REPOSITORY, descriptor)
    assert said == entries(root)
    async with BlobStore.open(root) as store:
        assert [("r:other", descriptor)] == store.lost_names

        await store.restored()
    async with BlobStore.open(root) as store:
        assert [] == store.lost_names
    assert [NAME] == list(entries(root))


async def test_a_database_that_is_only_locked_is_left_alone(root):
    """Another program that holds the file makes us say so; the names in it are safe."""
    async with BlobStore.open(root) as store:
        await image(store, "a")
    with closing(sqlite3.connect(root / "cache.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnusable, match=r"cache\.db: database is locked"):
            async with BlobStore.open(root):
                pass
        other.execute("ROLLBACK")
    async with BlobStore.open(root) as store:
        assert await store.resolve(NAME)


async def test_a_newer_database_is_refused(root):
    """A file of a later registryd is neither read wrongly nor put aside."""
    async with BlobStore.open(root):
        pass
    with closing(sqlite3.connect(root / "cache.db")) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreUnusable, match="upgrade it"):
        async with BlobStore.open(root):
            pass

    assert not (root / "cache.db.damaged").exists()


async def test_leftovers_are_swept_and_resumable_pairs_kept(root):
    """What no later start can use is gone when the store is open."""
    async with BlobStore.open(root) as store:
        await store.put(CONTENT, DESCRIPTOR)
    pair = [f"{ingest_key(BLOB)}.data", f"{ingest_key(BLOB)}.ranges"]
    strays = ["upload-1.data", "put-1.data", "index.json.new", f"{ingest_key(DIGEST)}.data"]
    for name in (*pair, *strays):
        (root / "ingest" / name).write_text("0 1\n")
    async with BlobStore.open(root) as store:
        assert pair == arriving(root)
        assert [] == store.arriving()
        await store.put(*layer("and works"))
