"""BlobStore beyond the contract: its clock, its lock, its start and its end."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from cache import uses
from cache.content import Descriptor, Digest
from cache.errors import (
    DiskFull,
    StoreLocked,
    StoreUnusable,
)
from cache.store import BlobStore
from tests.cache.gated_store import GatedStore, reopened
from tests.cache.gates import turns
from tests.cache.samples import layer, parent
from tests.contract.blob_store import CONTENT, DESCRIPTOR, DIGEST, NAME, REPOSITORY, arrive, image

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
async def gated(root):
    """A store whose threads can be stopped."""
    async with GatedStore.open(root) as store:
        yield store


async def test_what_the_index_has_no_room_for_is_not_here(store):
    """A blob that could not be recorded is not held; it comes again, and its image is whole."""
    index = store._index._db
    index.execute("PRAGMA max_page_count = 1")  # what there is by now, and no more
    with pytest.raises(DiskFull):
        for at in range(500):
            content, last = layer(f"{at}" * 500)
            await store.put(content, last)
    found = store.find(last.digest)
    index.execute("PRAGMA max_page_count = 100000")
    await store.put(content, last)

    assert None is found
    assert (await store.tag(NAME, REPOSITORY, last)).complete


# files


async def test_a_blob_is_a_file(store):
    """Of just its bytes, where its path says; put or arrived, and gone when it is removed."""
    await store.put(b"put", Descriptor.of("t", b"put"))
    await arrive(store, CONTENT)
    paths = {content: store.find(Digest.of(content)).path for content in (b"put", CONTENT)}

    assert [b"put", CONTENT] == [path.read_bytes() for path in paths.values()]

    await store.remove([DIGEST])
    assert [True, False] == [path.exists() for path in paths.values()]


# time


async def test_grants_end_by_the_clock(store, clock):
    """Granted for so many seconds, to one of the principals, for one repository."""
    await store.grants.add("a", "me", 10)

    assert await store.grants.covers("a", ["you", "me"])
    assert not await store.grants.covers("a", ["you"])
    assert not await store.grants.covers("a", [])
    assert not await store.grants.covers("b", ["me"])

    clock.now += 10
    assert not await store.grants.covers("a", ["me"])

    await store.grants.add("a", "me", 10)
    assert await store.grants.covers("a", ["me"])


async def test_a_lease_ends_though_its_block_is_cancelled(store):
    """Whoever is cancelled holds nothing any more."""
    await store.put(CONTENT, DESCRIPTOR)
    held = asyncio.Event()

    async def build():
        async with store.lease() as lease:
            await lease.hold(DIGEST)
            held.set()
            await asyncio.Event().wait()

    building = asyncio.ensure_future(build())
    await held.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building

    assert {DIGEST: len(CONTENT)} == await store.remove([DIGEST])


async def test_a_lease_ends_though_its_release_is_cancelled(root):
    """Cancelled while the index is busy, a lease is released when its turn comes."""
    async with GatedStore.open(root) as store:
        await store.put(CONTENT, DESCRIPTOR)
        block = store.lease()
        lease = await block.__aenter__()
        await lease.hold(DIGEST)
        gate = store.rows.hold()
        asking = asyncio.ensure_future(store.names())
        await gate.reached.wait()
        ending = asyncio.ensure_future(block.__aexit__(None, None, None))
        await turns()
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        gate.open()
        await asking

        assert {DIGEST: len(CONTENT)} == await store.remove([DIGEST])


async def test_uses_are_remembered(store, clock, root):
    """Reading is a use, and the newest counts; a restart keeps it."""
    await store.put(CONTENT, DESCRIPTOR)
    put = clock.now
    assert put == await store.last_used([DIGEST, Digest.of(b"none")])

    clock.now += 5
    await store.read(DIGEST, limit=len(CONTENT))
    assert put + 5 == await store.last_used([DIGEST])

    clock.now += 5
    async with store.open_blob(DIGEST):
        pass
    assert put + 10 == await store.last_used([DIGEST])
    assert 0.0 == await store.last_used([])


async def test_who_goes_by_uses_waits_for_those_being_written(gated):
    """What goes is chosen on another line than uses are written on: none is missed by it."""
    gate = gated.rows.hold()
    for at in range(uses.TOUCH_BATCH):
        await gated.touch(layer(str(at))[1].digest)
    await gate.reached.wait()
    plan = asyncio.ensure_future(gated._uses.write())
    await turns()
    waits = not plan.done()
    gate.open()
    await plan

    assert waits


async def test_uses_are_written_in_batches(root, clock):
    """One transaction for many uses, none for one; the end writes the rest."""
    async with GatedStore.open(root, clock=clock) as store:
        content = [layer(str(at)) for at in range(uses.TOUCH_BATCH)]
        for text, descriptor in content:
            await store.put(text, descriptor)
        hops = store.rows.hops
        clock.now += 7
        for _, descriptor in content[1:]:
            await store.touch(descriptor.digest)

        assert hops == store.rows.hops

        gate = store.rows.hold()
        await store.touch(content[0][1].digest)  # who uses it does not wait for the index
        await gate.reached.wait()
        gate.open()
        await store._acts.ended()
        assert hops + 1 == store.rows.hops

        clock.now += 7
        await store.touch(content[0][1].digest)
    async with BlobStore.open(root, clock=clock) as store:
        assert clock.now == await store.last_used([content[0][1].digest])
        assert clock.now - 7 == await store.last_used([content[1][1].digest])


async def test_a_use_that_cannot_be_written_costs_no_read(store):
    """When a blob was used may be lost; its content is given all the same."""
    await store.put(CONTENT, DESCRIPTOR)
    await store._db(lambda: store._index._db.execute("PRAGMA query_only = ON"))
    for at in range(uses.TOUCH_BATCH):
        await store.touch(Digest.of(str(at).encode()))

    assert CONTENT == await store.read(DIGEST, limit=len(CONTENT))
    with pytest.raises(StoreUnusable, match="readonly"):
        await store.add_member("a", DIGEST)


async def test_a_name_is_checked(store, clock):
    """When a name was last found to mean the same is remembered."""
    await image(store, "a")
    before = await store.resolve(NAME)
    clock.now += 100
    await store.checked(before)

    assert before.checked + 100 == (await store.resolve(NAME)).checked


async def test_a_check_that_comes_late_changes_nothing(store, clock):
    """A name that was moved, completed or forgotten since it was asked about stays so."""
    content, child = layer("child")
    text, root, links = parent(child)
    await store.put(text, root, links=links)
    partial = await store.tag("partial", REPOSITORY, root)
    await image(store, "a")
    old = await store.resolve(NAME)
    new, _ = await image(store, "b")
    await store.put(content, child)
    clock.now += 100
    await store.checked(old)
    await store.checked(partial)

    assert new == (await store.resolve(NAME)).descriptor
    assert clock.now - 100 == (await store.resolve(NAME)).checked
    assert (await store.resolve("partial")).complete

    await store.untag(NAME)
    await store.checked(old)
    assert await store.resolve(NAME) is None


# one writer


async def test_a_root_has_one_store(store, root):
    """A second store in the same process is told who holds the root."""
    with pytest.raises(StoreLocked, match=rf"{root} is in use by process {os.getpid()};"):
        async with BlobStore.open(root):
            pass


async def test_a_root_has_one_process(store, root):
    """Another process is told too, in one line."""
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom cache.store import BlobStore\n"
        "from cache.errors import StoreLocked\n"
        "async def main():\n"
        "    try:\n"
        "        async with BlobStore.open(Path(sys.argv[1])): pass\n"
        "    except StoreLocked as error: print(error)\n"
        "asyncio.run(main())\n"
    )
    told = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, str(root)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert f"cache root {root} is in use by process {os.getpid()};" in told.stdout
    assert 1 == len(told.stdout.splitlines())


async def test_a_closed_store_gives_its_root_back(root):
    """The lock and the threads go with the store."""
    before = threading.active_count()
    async with BlobStore.open(root):
        pass
    async with BlobStore.open(root) as store:
        await store.put(CONTENT, DESCRIPTOR)
    names = {thread.name for thread in threading.enumerate()}

    assert not [name for name in names if name.startswith("cache-")]
    assert threading.active_count() <= before + 1  # the loop's own thread for to_thread


async def test_a_store_that_cannot_open_gives_its_root_back(root):
    """After a failure to open, the next try is not told that the root is in use."""
    (root / "cache.db").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=r"cache\.db: unable to open"):
            async with BlobStore.open(root):
                pass
    (root / "cache.db").rmdir()
    async with BlobStore.open(root):
        pass


async def test_a_cancelled_opening_gives_its_root_back(root):
    """Cancelled while a thread opens the root, nothing stays open."""
    root.mkdir()
    with closing(sqlite3.connect(root / "cache.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # so the thread stands where it opens the database
        opening = asyncio.ensure_future(BlobStore.open(root).__aenter__())
        await turns()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        other.execute("ROLLBACK")
    await reopened(root)


async def test_a_store_that_cannot_recover_gives_its_root_back(root):
    """A root that cannot be read is said, and let go."""
    async with BlobStore.open(root):
        pass
    (root / "index.json").unlink()
    (root / "index.json").mkdir()
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=r"index\.json: Is a directory"):
            async with BlobStore.open(root):
                pass
