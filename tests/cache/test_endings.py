"""Arrivals and acts that are cut short: closed, cancelled, failed."""

import asyncio
import os

import pytest

from cache.content import Digest
from cache.errors import DigestMismatch, IngestAborted, StoreUnusable
from cache.layout import ingest_key
from cache.store import BlobStore
from tests.cache.gated_store import GatedStore, reopened
from tests.cache.gates import open_files, turns, until
from tests.cache.samples import arriving, blobs, entries, layer, noise, parent
from tests.contract.blob_store import CONTENT, DESCRIPTOR, DIGEST, NAME, REPOSITORY, arrive, image


@pytest.fixture
async def gated(root):
    """A store whose threads can be stopped."""
    async with GatedStore.open(root) as store:
        yield store


async def test_closing_keeps_what_is_arriving(root):
    """A close in the middle leaves a blob that the next start goes on with, but no upload."""
    async with GatedStore.open(root) as store:
        ingest = await store.ingest(DIGEST, size=len(CONTENT))
        upload = await store.upload()
        await upload.write(0, [CONTENT])
        await ingest.write(0, [CONTENT[:100]])
        gate = store.bytes.hold()
        under_way = ingest.write(100, [CONTENT[100:200]])
        await gate.reached.wait()
        gate.open()
    await under_way
    with pytest.raises(StoreUnusable, match="the cache is closing"):
        await ingest.known_size() and ingest.available(0)
    async with BlobStore.open(root) as store:
        ingest = await store.ingest(DIGEST, size=len(CONTENT))

        assert ((0, 200),) == ingest.held.ranges
        assert 2 == len(arriving(root))

        await ingest.write(200, [CONTENT[200:]])
        await store.commit(ingest)
    assert {DIGEST} == blobs(root)


async def test_nothing_is_kept_of_nothing(root):
    """An arrival that fails before its first byte leaves no file, or whoever asks for blobs that
    are not there fills the disk with names; one with bytes is kept."""
    async with BlobStore.open(root) as store:
        nothing = await store.ingest(DIGEST)
        await store.abort(nothing, IngestAborted("the registry does not know it"))
        left = arriving(root)
        something = await store.ingest(DIGEST)
        await something.write(0, [CONTENT[:100]])
        await store.abort(something, IngestAborted("broken off"))

        assert set() == set(left)
        assert 2 == len(arriving(root))


async def test_closing_waits_for_a_commit(root):
    """A commit whose caller was cancelled is recorded before the store is gone."""
    async with GatedStore.open(root) as store:
        ingest = await store.ingest(DIGEST, size=len(CONTENT))
        await ingest.write(0, [CONTENT])
        gate = store.bytes.hold(after=True)
        committing = asyncio.ensure_future(store.commit(ingest, repository=REPOSITORY))
        await gate.reached.wait()
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        gate.open()
    async with BlobStore.open(root) as store:
        assert await store.is_member(REPOSITORY, DIGEST)


async def test_closing_waits_for_acts(root):
    """What was begun is written down before the root is free, though nobody waits for it."""
    opened = GatedStore.open(root)
    store = await opened.__aenter__()
    gate = store.bytes.hold()
    putting = asyncio.ensure_future(store.put(CONTENT, DESCRIPTOR, repository=REPOSITORY))
    await gate.reached.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    closing = asyncio.ensure_future(opened.__aexit__(None, None, None))
    await turns()

    assert not closing.done()

    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    gate.open()
    await reopened(root)
    async with BlobStore.open(root) as store:
        assert await store.is_member(REPOSITORY, DIGEST)


async def test_a_cancelled_tag_is_shown_and_a_cancelled_untag_is_not(gated, root):
    """index.json follows, whoever has gone meanwhile."""
    descriptor, _ = await image(gated, "a", tag=False)
    for act, shown in [
        (lambda: gated.tag(NAME, REPOSITORY, descriptor), [NAME]),
        (lambda: gated.untag(NAME), []),
    ]:
        gate = gated.rows.hold(after=True)
        acting = asyncio.ensure_future(act())
        await gate.reached.wait()
        acting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acting
        gate.open()
        await gated._acts.ended()

        assert shown == list(entries(root))


async def test_a_cancelled_commit_is_found(gated):
    """Whoever cancels a commit that goes through finds the blob, its followers too."""
    ingest = await gated.ingest(DIGEST, size=len(CONTENT))
    await ingest.write(0, [CONTENT])
    gate = gated.bytes.hold()
    committing = asyncio.ensure_future(gated.commit(ingest))
    await gate.reached.wait()
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    aborting = asyncio.ensure_future(gated.abort(ingest, OSError("cancelled")))
    gate.open()
    await aborting
    await gated._acts.ended()

    assert gated.find(DIGEST)
    assert {DIGEST: len(CONTENT)} == await gated.unreferenced()
    assert [] == gated.arriving()


async def test_a_cancelled_put_is_recorded(gated):
    """A manifest whose client has gone in the middle is stored whole, with its links."""
    _, child = layer("child")
    content, root, links = parent(child)
    gate = gated.bytes.hold(after=True)
    putting = asyncio.ensure_future(gated.put(content, root, repository="r", links=links))
    await gate.reached.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    gate.open()
    await gated._acts.ended()

    assert gated.find(root.digest)
    assert [child] == await gated.children(root.digest)
    assert await gated.is_member("r", root.digest)


async def test_an_arrival_cancelled_at_its_start_can_begin_again(gated, root):
    """Cancelled while its file is opened, a digest is not "arriving" for ever."""
    before, gate = open_files(), gated.bytes.hold()
    beginning = asyncio.ensure_future(gated.ingest(DIGEST))
    await gate.reached.wait()
    beginning.cancel()
    await turns()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await beginning

    assert [] == gated.arriving()
    assert before == open_files()
    assert DIGEST == await arrive(gated, CONTENT)


async def test_an_arrival_that_cannot_begin_can_begin_again(gated, root):
    """Neither is one whose file cannot be opened."""
    path = root / "ingest" / f"{ingest_key(DIGEST)}.data"
    path.mkdir()
    with pytest.raises(StoreUnusable):
        await gated.ingest(DIGEST)
    path.rmdir()

    assert DIGEST == await arrive(gated, CONTENT)


async def test_a_cancelled_reader_leaks_nothing(gated):
    """Cancelled while its file is opened, a reader's descriptor is closed."""
    await gated.put(CONTENT, DESCRIPTOR)
    before = open_files()
    gate = gated.bytes.hold(after=True)
    opening = asyncio.ensure_future(gated.open_blob(DIGEST).__aenter__())
    await gate.reached.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    gate.open()
    await until(lambda: open_files() == before)


async def test_a_wrong_blob_leaves_nothing(store, root):
    """Nothing under blobs/, nothing in ingest/, nothing arriving; and the next try is free."""
    ingest = await store.ingest(DIGEST, size=len(CONTENT))
    follower = asyncio.ensure_future(_follow(ingest))
    await ingest.write(0, [CONTENT[1:]])
    await ingest.write(len(CONTENT) - 1, [b"?"])
    with pytest.raises(DigestMismatch):
        await store.commit(ingest)
    with pytest.raises(DigestMismatch):
        await follower

    assert set() == blobs(root)
    assert [] == arriving(root)
    assert [] == store.arriving()
    assert DIGEST == await arrive(store, CONTENT)


async def _follow(ingest):
    async with ingest.follow() as follower:
        async for _ in follower:
            pass


async def test_many_arrive_and_are_followed_at_once(store):
    """Twenty blobs, four followers each, in pieces: all are right."""
    contents = [noise(70_000 + seed, seed) for seed in range(20)]

    async def one(content):
        ingest = await store.ingest(Digest.of(content), size=len(content))
        async with asyncio.TaskGroup() as group:
            followers = [group.create_task(_read(ingest)) for _ in range(4)]
            for at in range(0, len(content), 9_000):
                await ingest.write(at, [content[at : at + 9_000]])
            await store.commit(ingest)
        return all(content == follower.result() for follower in followers)

    assert all(await asyncio.gather(*map(one, contents)))
    assert len(contents) == len(store)


async def _read(ingest):
    got = bytearray()
    async with ingest.follow() as follower:
        async for offset, count in follower:
            got += os.pread(follower.fd, count, offset)
    return bytes(got)


async def test_whoever_follows_a_lost_arrival_is_told(store):
    """An abort by the store tells followers why."""
    ingest = await store.ingest(DIGEST, size=len(CONTENT))
    follower = asyncio.ensure_future(_follow(ingest))
    await turns()
    await store.abort(ingest, ConnectionError("unplugged"), discard=True)
    with pytest.raises(IngestAborted, match="unplugged"):
        await follower
