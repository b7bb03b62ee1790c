"""Blobs read again: what is wrong with a file is found, and nobody is given it any more."""

import os

import pytest

from cache.content import Digest
from cache.errors import StoreUnusable
from cache.scrub import HOP
from cache.store import BlobStore
from tests.cache.samples import blobs, entries, layer, noise, parent
from tests.contract.blob_store import NAME, REPOSITORY, arrive, image


def overwrite(path, change):
    """Change a blob's file as a bad disk would."""
    path.chmod(0o644)
    change(path)
    path.chmod(0o444)


def flip(path):
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


async def prove(store, digest):
    told = []
    found = await store.scrub.prove(digest, lambda at, size: told.append((at, size)))
    return found, told


async def test_what_is_right_stays(store, root):
    """A blob that is what it was is left alone; that it is read is told to its end, and no use."""
    content = noise(HOP + 5)
    digest = await arrive(store, content)
    used = await store.last_used([digest])
    found, told = await prove(store, digest)
    empty = await arrive(store, b"")

    assert (None, [(HOP, len(content)), (len(content),) * 2]) == (found, told)
    assert (None, [(0, 0)]) == await prove(store, empty)
    assert used == await store.last_used([digest])
    assert not (root / "quarantine").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (flip, "it hashes to sha256:"),
        (lambda path: os.truncate(path, 3), "it has 3 bytes, not 5"),
        (lambda path: path.write_bytes(b"longer than it was"), "it has 18 bytes, not 5"),
    ],
)
async def test_what_is_wrong_is_put_aside(root, change, why):
    """Its file is kept, its images are named and incomplete; it comes again as any blob, and then
    they are whole: in this process and after a restart."""
    async with BlobStore.open(root) as store:
        manifest, (bad, _) = await image(store, "first", "other")
        overwrite(store.find(bad.digest).path, change)
        found, _ = await prove(store, bad.digest)
        kept = (root / "quarantine" / f"sha256-{bad.digest.hex}").exists()
        gone = store.find(bad.digest), await store.is_complete(manifest), entries(root)
        again = await prove(store, bad.digest)
    async with BlobStore.open(root) as store:
        after = store.find(bad.digest), (await store.resolve(NAME)).complete
        await store.put(*layer("first"))
        whole = (await store.resolve(NAME)).complete, set(entries(root))

    assert found.why.startswith(why)
    assert ((NAME,), True, (None, [])) == (found.names, kept, again)
    assert (None, False, {}) == gone
    assert (None, False) == after
    assert (True, {NAME}) == whole


async def test_a_file_that_is_gone_is_told(store, root):
    """A blob without its file is no blob: there is nothing to put aside."""
    content, descriptor = layer("lost")
    await store.put(content, descriptor)
    store.find(descriptor.digest).path.unlink()
    found, _ = await prove(store, descriptor.digest)

    assert (("", ()), None) == ((found.path, found.names), store.find(descriptor.digest))
    assert set() == blobs(root)


async def test_what_cannot_be_put_aside_is_given_to_nobody(store, root):
    """Where quarantine/ cannot be written the file stays, and goes when the blob comes again."""
    digest = await arrive(store, noise(5))
    overwrite(store.find(digest).path, flip)
    (root / "quarantine").write_bytes(b"")
    with pytest.raises(StoreUnusable):
        await prove(store, digest)
    gone = store.find(digest)
    await arrive(store, noise(5))

    assert gone is None
    assert noise(5) == await store.read(digest, limit=5)


async def test_what_is_wrong_is_told_whatever_fails_after(store, root):
    """Who fetches it again hears of it also where index.json cannot be written now."""
    _, (bad, _) = await image(store, "first", "other")
    overwrite(store.find(bad.digest).path, flip)
    (root / "ingest" / "index.json.new").mkdir()
    told = []
    store.scrub.watch(told.append)
    with pytest.raises(StoreUnusable):
        await prove(store, bad.digest)
    (root / "ingest" / "index.json.new").rmdir()

    assert [bad.digest] == [each.digest for each in told]


async def test_what_was_made_is_needed_by_no_image(store):
    """Where a conversion is wrong its image is whole still."""
    root, _ = await image(store, "one")
    content, made = layer("squashed")
    document, descriptor, links = parent(made)
    await store.put(content, made)
    await store.put(document, descriptor, links=links)
    await store.made.record(root.digest, descriptor)
    overwrite(store.find(made.digest).path, flip)
    found, _ = await prove(store, made.digest)

    assert ((), True) == (found.names, (await store.resolve(NAME)).complete)


async def test_a_bad_manifest_keeps_its_layers(store):
    """What a manifest pointed to is kept for it, and comes back with it."""
    root, layers = await image(store, "one", "two")
    overwrite(store.find(root.digest).path, flip)
    await prove(store, root.digest)
    spare = await store.unreferenced()
    content, descriptor, links = parent(*layers)
    await store.put(content, descriptor, repository=REPOSITORY, links=links)

    assert {} == spare
    assert (root.digest, True) == (descriptor.digest, (await store.resolve(NAME)).complete)
    assert isinstance(root.digest, Digest)


async def test_a_bit_that_flips_on_its_way_condemns_nothing(store, root):
    """What is read as wrong once and as right then stays."""
    digest = await arrive(store, noise(5))
    path = store.find(digest).path
    overwrite(path, flip)
    found = await store.scrub.prove(digest, lambda at, size: overwrite(path, flip))

    assert (None, True) == (found, store.find(digest) is not None)
    assert 2 == store.scrub.counts["blobs"]
    assert not (root / "quarantine").exists()
