"""Removal while content arrives, names come and go, and callers are cancelled."""

import asyncio

import pytest

from cache.content import Digest
from cache.errors import DiskFull
from cache.listing import Listing
from cache.passages import Passages
from cache.store import BlobStore
from tests.cache.gated_store import GatedStore
from tests.cache.gates import turns
from tests.cache.samples import blobs, entries, layer, parent
from tests.contract.blob_store import CONTENT, DESCRIPTOR, DIGEST, NAME, arrive, image


@pytest.fixture
async def store(root):
    """A store whose threads can be stopped."""
    async with GatedStore.open(root) as store:
        yield store


async def others(store, count=5):
    """Other content goes through every thread of the store: whoever could go on has gone on."""
    for at in range(count):
        await store.put(*layer(f"other {at}"))
        await arrive(store, f"another {at}".encode())


async def begin_removal(store, *digests):
    """A removal that stands just before the files go."""
    gate = store.bytes.hold()
    removing = asyncio.ensure_future(store.remove(digests))
    await gate.reached.wait()
    return gate, removing


async def test_a_blob_put_again_while_it_is_removed_survives(store, root):
    """The new bytes are written after the old ones have gone."""
    await store.put(CONTENT, DESCRIPTOR)
    gate, removing = await begin_removal(store, DIGEST)
    putting = asyncio.ensure_future(store.put(CONTENT, DESCRIPTOR))
    await others(store)
    gate.open()
    await asyncio.gather(removing, putting)

    assert store.find(DIGEST)
    assert DIGEST in blobs(root)


async def test_a_blob_committed_while_it_is_removed_survives(store, root):
    """An upload that turns out to be a blob on its way out is kept."""
    await store.put(CONTENT, DESCRIPTOR)
    upload = await store.upload()
    await upload.write(0, [CONTENT])
    gate, removing = await begin_removal(store, DIGEST)
    committing = asyncio.ensure_future(store.commit(upload, DIGEST))
    await others(store)
    gate.open()
    await asyncio.gather(removing, committing)

    assert store.find(DIGEST)
    assert DIGEST in blobs(root)
    assert CONTENT == await store.read(DIGEST, limit=len(CONTENT))


async def test_a_blob_that_is_put_again_is_not_removed_meanwhile(store, root):
    """Found on disk and about to be recorded, a blob is not taken away before that."""
    await store.put(CONTENT, DESCRIPTOR)
    gate = store.rows.hold()
    putting = asyncio.ensure_future(store.put(CONTENT, DESCRIPTOR))
    await gate.reached.wait()
    removing = asyncio.ensure_future(store.remove([DIGEST]))
    gate.open()
    await asyncio.gather(putting, removing)

    assert {} == removing.result()
    assert store.find(DIGEST)
    assert DIGEST in blobs(root)


async def test_a_removal_meets_a_put_before_it_has_asked_the_index(store, root):
    """A put that begins while the index is asked waits too, though the blob is found still."""
    await store.put(CONTENT, DESCRIPTOR)
    gate = store.rows.hold(after=True)
    removing = asyncio.ensure_future(store.remove([DIGEST]))
    await gate.reached.wait()
    assert store.find(DIGEST)
    putting = asyncio.ensure_future(store.put(CONTENT, DESCRIPTOR))
    await turns()
    gate.open()
    await asyncio.gather(removing, putting)

    assert store.find(DIGEST)
    assert DIGEST in blobs(root)


async def test_a_removal_whose_caller_is_cancelled_is_whole(store, root):
    """Gone from the index is gone from memory and from the disk."""
    await store.put(CONTENT, DESCRIPTOR)
    gate = store.rows.hold(after=True)
    removing = asyncio.ensure_future(store.remove([DIGEST]))
    await gate.reached.wait()
    removing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await removing
    gate.open()
    await store.put(*layer("behind it in every queue"))
    await store._acts.ended()

    assert store.find(DIGEST) is None
    assert DIGEST not in blobs(root)


async def test_the_name_goes_before_the_content(store, root):
    """Content of a name that is just being forgotten stays until index.json has been written."""
    descriptor, _ = await image(store, "a")
    gate = store.bytes.hold()
    untagging = asyncio.ensure_future(store.untag(NAME))
    await gate.reached.wait()
    removing = asyncio.ensure_future(store.remove([descriptor.digest]))
    await others(store)

    assert [NAME] == list(entries(root))
    assert descriptor.digest in blobs(root)

    gate.open()
    await asyncio.gather(untagging, removing)
    assert {} == entries(root)
    assert descriptor.digest not in blobs(root)


class FullStore(BlobStore):
    """A store on a disk where index.json has no room while there are blobs."""

    def __init__(self, files, index, *, clock):
        super().__init__(files, index, clock=clock)
        write = self._listing._write

        async def write_where_room_is(content):
            if self.full and blobs(self.root):
                raise DiskFull("no room")
            await write(content)

        self.full = False
        self._listing = Listing(self._listing._render, write_where_room_is)


async def test_on_a_full_disk_the_room_comes_first(root):
    """A name that could not be taken out of index.json does not keep content for ever."""
    async with FullStore.open(root) as store:
        descriptor, layers = await image(store, "a")
        store.full = True
        with pytest.raises(DiskFull):
            await store.untag(NAME)
        await store.remove([descriptor.digest, layers[0].digest])

        assert set() == blobs(root)
        assert {} == entries(root)


async def test_a_name_set_in_between_waits_for_its_last_child(store, root):
    """The last child arrives while the name is set: one of the two sees the other."""
    content, child = layer("last")
    text, manifest, links = parent(child)
    await store.put(text, manifest, links=links)
    for after in (False, True):
        gate = store.rows.hold(after=after)
        tagging = asyncio.ensure_future(store.tag(NAME, "r", manifest))
        await gate.reached.wait()
        putting = asyncio.ensure_future(store.put(content, child))
        await turns()
        gate.open()
        await asyncio.gather(tagging, putting)

        assert (await store.resolve(NAME)).complete
        assert [NAME] == list(entries(root))

        await store.untag(NAME)
        await store.remove([child.digest])


async def test_removals_come_one_after_another(store):
    """What two ask for at once is removed once."""
    await store.put(CONTENT, DESCRIPTOR)
    gone = await asyncio.gather(*(store.remove([DIGEST]) for _ in range(5)))

    assert 1 == sum(map(len, gone))


async def test_a_digest_never_comes_and_goes_at_once():
    """Passages by themselves: who lands waits for who leaves; who leaves passes over who lands."""
    passages, other = Passages(), Digest.of(b"other")
    entered, go = asyncio.Event(), asyncio.Event()

    async def land():
        async with passages.landing(DIGEST):
            entered.set()
            await go.wait()

    async with passages.leaving([DIGEST, other]) as leaving:
        assert {DIGEST, other} == leaving

        landings = [asyncio.ensure_future(land()) for _ in range(2)]
        await turns()
        assert not entered.is_set()
    await entered.wait()
    async with passages.leaving([DIGEST, other]) as leaving:
        assert {other} == leaving
    go.set()
    await asyncio.gather(*landings)
    async with passages.leaving([DIGEST]) as leaving:
        assert {DIGEST} == leaving
