"""Held: what is here, and who is told of it."""

from cache.content import Digest
from cache.held import Held
from cache.store import BlobStore
from tests.cache.samples import noise

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


def test_a_watcher_is_told_of_each_change_once():
    """What is here already, and what was not, is no news."""
    held, told = Held(), []
    held.found({ONE.hex: 3})
    held.watch(lambda digest, size: told.append((digest, size)))
    held.add(ONE, 3)
    held.add(TWO, 4)
    held.add(TWO, 4)
    held.drop(ONE)
    held.drop(ONE)

    assert [(TWO, 4), (ONE, None)] == told
    assert [TWO] == list(held)
    assert 4 == held.total
    assert TWO in held
    assert ONE not in held


async def test_a_store_tells_what_comes_and_goes(tmp_path):
    """A commit and a removal are told once they are done."""
    content = noise(100_000)
    told = []
    async with BlobStore.open(tmp_path / "root") as store:
        store.held.watch(lambda digest, size: told.append((digest, size, store.find(digest))))
        ingest = await store.ingest(Digest.of(content))
        await ingest.write(0, [content])
        digest = await store.commit(ingest, repository="up.test/a")
        blob = store.find(digest)
        await store.remove([digest])

    assert [(digest, 100_000, blob), (digest, None, None)] == told
