"""What a store knows after a restart, and what a directory knows better."""

import os
from pathlib import Path

import pytest

from cache.errors import BlobNotFound, SizeMismatch
from cache.grants import KEPT as GRANT_KEPT
from cache.store import BlobStore
from tests.cache.samples import entries, layer
from tests.contract.blob_store import CONTENT, DESCRIPTOR, DIGEST, NAME, REPOSITORY, image

ROOT = Path(__file__).resolve().parent.parent.parent


async def test_a_restart_remembers_everything(root):
    """Blobs, names, links, members, grants."""
    async with BlobStore.open(root) as store:
        root_descriptor, layers = await image(store, "a", "b")
        await store.add_member(REPOSITORY, root_descriptor.digest)
        await store.grants.add(REPOSITORY, "me", 1000)
    async with BlobStore.open(root) as store:
        assert 3 == len(store)
        assert root_descriptor == (await store.resolve(NAME)).descriptor
        assert sorted(layers, key=str) == sorted(
            await store.children(root_descriptor.digest), key=str
        )
        assert await store.is_member(REPOSITORY, root_descriptor.digest)
        assert await store.grants.covers(REPOSITORY, ["me"])
        assert [] == store.lost_names
    assert {NAME: str(root_descriptor.digest)} == entries(root)


async def test_a_restart_forgets_what_is_over(root, clock):
    """Leases were held by tasks of a process that has ended; old grants do not pile up."""
    async with BlobStore.open(root, clock=clock) as store:
        await store.hold("killed", [DIGEST], 2 * GRANT_KEPT)
        await store.grants.add("a", "old", 10)
        await store.grants.add("a", "new", 1000)
    clock.now += GRANT_KEPT + 20
    async with BlobStore.open(root, clock=clock) as store:
        rows = await store._db(
            lambda: (
                store._index._db.execute("SELECT lease FROM leases").fetchall(),
                store._index._db.execute("SELECT principal FROM grants").fetchall(),
            )
        )

    assert ([], [("new",)]) == rows


async def test_a_blob_removed_by_hand_is_missed_at_the_start(root):
    """It is not found, its names are incomplete and out of index.json, until it comes back."""
    async with BlobStore.open(root) as store:
        _, (first, _) = await image(store, "a", "b")
    (root / "blobs" / "sha256" / first.digest.hex).unlink()
    async with BlobStore.open(root) as store:
        assert store.find(first.digest) is None
        assert not (await store.resolve(NAME)).complete
        assert {} == entries(root)

        await store.put(b"a", first)
        assert (await store.resolve(NAME)).complete
        assert [NAME] == list(entries(root))


async def test_a_blob_put_in_by_hand_is_found_at_the_start(root):
    """The directory knows better than the index: what is there counts, with the size it has."""
    content, descriptor = layer("by hand")
    async with BlobStore.open(root):
        (root / "blobs" / "sha256" / descriptor.digest.hex).write_bytes(content)
    async with BlobStore.open(root) as store:
        assert content == await store.read(descriptor.digest, limit=100)
        assert {descriptor.digest: 7} == await store.unreferenced()


async def test_a_blob_cut_short_by_hand_is_not_read(root):
    """Sizes of blobs that were known are not looked at again at the start, but by whoever reads."""
    async with BlobStore.open(root) as store:
        await store.put(CONTENT, DESCRIPTOR)
        store.find(DIGEST).path.chmod(0o644)
        os.truncate(store.find(DIGEST).path, 5)
    async with BlobStore.open(root) as store:
        with pytest.raises(SizeMismatch, match=f"damaged: its file has 5 bytes of {len(CONTENT)}"):
            await store.read(DIGEST, limit=len(CONTENT))


async def test_a_blob_removed_under_our_feet_is_not_found(store):
    """A file that has gone while we run is BlobNotFound, not an error of the disk."""
    await store.put(CONTENT, DESCRIPTOR)
    store.find(DIGEST).path.unlink()
    with pytest.raises(BlobNotFound):
        await store.read(DIGEST, limit=len(CONTENT))
    with pytest.raises(BlobNotFound):
        async with store.open_blob(DIGEST):
            pass


async def test_the_index_is_its_owners_alone(tmp_path: Path) -> None:
    """cache.db holds secrets: nobody else may read it, though an earlier one was readable."""
    async with BlobStore.open(tmp_path / "root"):
        pass
    database = tmp_path / "root" / "cache.db"
    database.chmod(0o644)

    async with BlobStore.open(tmp_path / "root") as store:
        secret = await store.grants.secret("salt")

    assert 0o600 == database.stat().st_mode & 0o777
    async with BlobStore.open(tmp_path / "root") as store:
        assert secret == await store.grants.secret("salt")
        assert secret != await store.grants.secret("other")
