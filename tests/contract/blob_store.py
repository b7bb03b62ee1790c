"""What every blob store promises: inherit ``BlobStoreContract`` and give it three fixtures.

``store`` gives an empty store, ``pread`` what reads from what its readers get, and ``clock`` the
time by which the store goes, in ``now``. Everything here is asked through the public methods of
``tests.contract.store``.
"""

import asyncio
from typing import Any, Protocol

import pytest

from cache.content import Descriptor, Digest
from cache.errors import (
    BlobNotFound,
    DigestMismatch,
    NameNotFound,
    SizeMismatch,
)
from cache.index import Name
from cache.ingest import HELD_BACK
from tests.cache.samples import MANIFEST_TYPE, layer, noise, parent
from tests.contract.store import AnyStore, Arrival, Pread

CONTENT = noise(HELD_BACK * 2 + 7, seed=3)
DIGEST = Digest.of(CONTENT)
DESCRIPTOR = Descriptor.of("application/x", CONTENT)
REPOSITORY = "example.test/a/b"
NAME = f"{REPOSITORY}:1"


async def arrive(
    store: AnyStore, content: bytes, digest: Digest | None = None, **options: Any
) -> Digest:
    """Bring content in through an ingest."""
    digest = digest or Digest.of(content)
    ingest = await store.ingest(digest, size=len(content))
    await ingest.write(0, [content])
    return await store.commit(ingest, **options)


async def read(
    ingest: Arrival[Any], pread: Pread[Any], start: int = 0, stop: int | None = None
) -> bytes:
    """Everything a follower gets."""
    got = bytearray()
    async with ingest.follow(start, stop) as follower:
        async for offset, count in follower:
            got += pread(follower.fd, count, offset)
    return bytes(got)


async def image(
    store: AnyStore, *texts: str, name: str = NAME, tag: bool = True
) -> tuple[Descriptor, list[Descriptor]]:
    """An image of these layers, all of it stored; gives its descriptor and its layers'."""
    layers = [layer(text) for text in texts]
    for content, descriptor in layers:
        await store.put(content, descriptor)
    content, root, links = parent(*(descriptor for _, descriptor in layers))
    await store.put(content, root, links=links)
    if tag:
        await store.tag(name, REPOSITORY, root)
    return root, [descriptor for _, descriptor in layers]


async def known(store: AnyStore, name: str = NAME) -> Name:
    """What a name means that is known."""
    found = await store.resolve(name)
    assert found is not None
    return found


class Time(Protocol):
    """Unix seconds that only a test moves."""

    now: float

    def __call__(self) -> float:
        """The same."""


class BlobStoreContract:
    """The promises."""

    async def test_an_empty_store_holds_nothing(self, store: AnyStore) -> None:
        """Every question has the answer "no"."""
        assert store.find(DIGEST) is None
        assert 0 == len(store)
        assert 0 == store.size
        assert [] == await store.names()
        assert await store.resolve(NAME) is None
        assert {} == await store.unreferenced()
        assert {} == await store.remove([DIGEST])

    async def test_what_was_put_is_found_and_read(self, store: AnyStore, pread: Pread[Any]) -> None:
        """Bytes in, the same bytes out, every way."""
        await store.put(CONTENT, DESCRIPTOR)
        blob = store.find(DIGEST)

        assert blob is not None
        assert (DIGEST, len(CONTENT)) == (blob.digest, blob.size)
        assert CONTENT == await store.read(DIGEST, limit=len(CONTENT))
        async with store.open_blob(DIGEST) as fd:
            assert CONTENT == pread(fd, len(CONTENT) + 1, 0)
        assert (1, len(CONTENT)) == (len(store), store.size)

    async def test_what_is_put_twice_is_there_once(self, store: AnyStore) -> None:
        """Already there is a success, one after the other and at the same time."""
        await store.put(CONTENT, DESCRIPTOR)
        await asyncio.gather(*(store.put(CONTENT, DESCRIPTOR) for _ in range(10)))
        await asyncio.gather(*(store.put(b"new", Descriptor.of("t", b"new")) for _ in range(10)))

        assert 2 == len(store)
        assert b"new" == await store.read(Digest.of(b"new"), limit=3)

    async def test_what_is_not_its_digest_is_refused(self, store: AnyStore) -> None:
        """Wrong bytes and wrong sizes never get in."""
        with pytest.raises(DigestMismatch):
            await store.put(CONTENT[::-1], DESCRIPTOR)
        with pytest.raises(SizeMismatch):
            await store.put(CONTENT[1:], DESCRIPTOR)
        with pytest.raises(DigestMismatch):
            await arrive(store, CONTENT[::-1], DIGEST)

        assert store.find(DIGEST) is None
        assert [] == store.arriving()

    async def test_what_is_not_there_cannot_be_read(self, store: AnyStore) -> None:
        """BlobNotFound, every way."""
        with pytest.raises(BlobNotFound):
            await store.read(DIGEST, limit=10)
        with pytest.raises(BlobNotFound):
            async with store.open_blob(DIGEST):
                pass
        with pytest.raises(BlobNotFound, match=f"{NAME}: .* is not in the cache"):
            await store.tag(NAME, REPOSITORY, DESCRIPTOR)

    async def test_a_read_is_limited(self, store: AnyStore) -> None:
        """A large blob is not read into memory by mistake."""
        await store.put(CONTENT, DESCRIPTOR)
        with pytest.raises(SizeMismatch, match=f"at most {len(CONTENT) - 1} are read"):
            await store.read(DIGEST, limit=len(CONTENT) - 1)

    async def test_a_name_is_set_moved_and_forgotten(self, store: AnyStore) -> None:
        """Resolve says what a name means now."""
        first, _ = await image(store, "a")
        entry = await known(store)

        assert (NAME, REPOSITORY, first, True) == (
            entry.name, entry.repository, entry.descriptor, entry.complete,
        )  # fmt: skip

        second, _ = await image(store, "b")

        assert second == (await known(store)).descriptor
        assert second == (await store.untag(NAME)).descriptor
        assert await store.resolve(NAME) is None
        with pytest.raises(NameNotFound, match=f"{NAME} is not in the cache"):
            await store.untag(NAME)
        assert store.find(second.digest)

    async def test_names_are_listed_in_order(self, store: AnyStore) -> None:
        """All of them, or those of one repository."""
        root, _ = await image(store, "a", tag=False)
        for name, repository in [("b:2", "b"), ("a:1", "a"), ("b:1", "b")]:
            await store.tag(name, repository, root)

        assert ["a:1", "b:1", "b:2"] == [entry.name for entry in await store.names()]
        assert ["b:1", "b:2"] == [entry.name for entry in await store.names("b")]

    async def test_a_name_is_complete_when_all_it_needs_is_here(self, store: AnyStore) -> None:
        """The last child makes it so, however it arrives."""
        (one, first), (two, second) = layer("one"), layer("two" * 10)
        content, root, links = parent(first, second)
        await store.put(content, root, links=links)

        assert not (await store.tag(NAME, REPOSITORY, root)).complete
        assert not await store.is_complete(root)

        await store.put(one, first)
        assert not (await known(store)).complete

        await arrive(store, two, second.digest)
        assert (await known(store)).complete
        assert await store.is_complete(root)

    async def test_a_name_is_complete_no_longer_by_what_is_told_late(self, store: AnyStore) -> None:
        """A manifest that came as a blob like any other needs nothing until its links are told."""
        child_content, child = layer("child")
        content, root, links = parent(child)
        await arrive(store, content, root.digest)

        assert (await store.tag(NAME, REPOSITORY, root)).complete

        await store.put(content, root, links=links)
        assert not (await known(store)).complete

        await store.put(child_content, child)
        assert (await known(store)).complete

    async def test_an_index_needs_one_of_its_children(self, store: AnyStore) -> None:
        """One platform is enough; a platform that is half here is not."""
        (one, first), (two, second) = layer("one"), layer("two")
        manifests = [parent(first), parent(second)]
        content, root, links = parent(*(child for _, child, _ in manifests), rule="any")
        await store.put(content, root, links=links)
        await store.tag(NAME, REPOSITORY, root)
        await store.put(manifests[0][0], manifests[0][1], links=manifests[0][2])
        await store.put(two, second)

        assert not (await known(store)).complete

        await store.put(one, first)
        assert (await known(store)).complete

    async def test_links_are_remembered(self, store: AnyStore) -> None:
        """Children, their sizes and the parent's type, before the children are here."""
        _, child = layer("child")
        content, root, links = parent(child)
        await store.put(content, root, links=links)
        await store.put(content, root, links=links)

        assert [child] == await store.children(root.digest)
        assert child.size == await store.expected_size(child.digest)
        assert await store.expected_size(DIGEST) is None
        assert MANIFEST_TYPE == await store.media_type(root.digest)
        assert "" == await store.media_type(DIGEST)
        assert {root.digest: root.size} == await store.closure(root.digest)

    async def test_members_are_remembered(self, store: AnyStore) -> None:
        """A blob belongs to the repositories it was proven to belong to."""
        await store.put(CONTENT, DESCRIPTOR, repository="a")
        await store.add_member("b", DIGEST, Digest.of(b"other"))
        await store.add_member("b", DIGEST)

        assert [True, True, False] == [await store.is_member(r, DIGEST) for r in "abc"]
        assert await store.drop_member("b", DIGEST)
        assert not await store.drop_member("b", DIGEST)
        assert [True, False, False] == [await store.is_member(r, DIGEST) for r in "abc"]

    async def test_what_a_name_needs_is_never_removed(self, store: AnyStore) -> None:
        """Not the manifest, not its layers, complete or not; untagged, all may go."""
        root, layers = await image(store, "a", "b")
        _, missing = layer("missing")
        content, partial, links = parent(layers[0], missing)
        await store.put(content, partial, links=links)
        await store.tag("partial", REPOSITORY, partial)
        everything = [root.digest, partial.digest, *(each.digest for each in layers)]
        await store.add_member(REPOSITORY, *everything)

        assert {} == await store.remove(everything)
        assert {} == await store.unreferenced()

        await store.untag(NAME)
        assert {root.digest: root.size, layers[1].digest: 1} == await store.unreferenced()
        assert {layers[1].digest: 1} == await store.remove([layers[0].digest, layers[1].digest])
        assert store.find(layers[0].digest)
        assert store.find(layers[1].digest) is None
        assert not await store.is_member(REPOSITORY, layers[1].digest)
        assert await store.is_member(REPOSITORY, layers[0].digest)

    async def test_a_lease_keeps_content(self, store: AnyStore) -> None:
        """Held, with what it points to, from before it arrives until the lease ends."""
        content, descriptor = layer("leased")
        text, root, links = parent(descriptor)
        async with store.lease() as lease:
            await lease.hold(root.digest)
            await lease.hold(root.digest, DIGEST)
            await store.put(text, root, links=links)
            await store.put(content, descriptor)

            assert {} == await store.remove([root.digest, descriptor.digest])

        freed = {root.digest: root.size, descriptor.digest: descriptor.size}
        assert freed == await store.unreferenced()
        assert freed == await store.remove(freed)
        assert 0 == len(store)

    async def test_two_leases_hold_the_same(self, store: AnyStore) -> None:
        """The end of one does not end the other."""
        await store.put(CONTENT, DESCRIPTOR)
        async with store.lease() as outer:
            await outer.hold(DIGEST)
            async with store.lease() as inner:
                await inner.hold(DIGEST)

            assert {} == await store.remove([DIGEST])

    async def test_a_lease_and_a_pin_end_by_themselves(self, store: AnyStore, clock: Time) -> None:
        """While their time lasts, renewed or not, they keep what they hold; from its end on
        nothing does."""
        pinned = Descriptor.of("application/x", b"pinned")
        both = {DIGEST: len(CONTENT), pinned.digest: pinned.size}
        await store.put(CONTENT, DESCRIPTOR)
        await store.put(b"pinned", pinned)
        await store.pins.add(pinned.digest, name="mine", ttl=18)
        async with store.lease(ttl=10) as lease:
            await lease.hold(DIGEST)
            clock.now += 8
            await lease.hold(DIGEST)
            clock.now += 9
            kept = await store.remove(both), len(await store.pins.of(pinned.digest))
            clock.now += 1

            assert ({}, 1) == kept
            assert [] == await store.pins.of(pinned.digest)
            assert both == await store.remove(both)

    async def test_uses_are_remembered(self, store: AnyStore, clock: Time) -> None:
        """To arrive, to be read and to be opened is a use; a read may ask not to be one."""
        used = []
        await store.put(CONTENT, DESCRIPTOR)
        for use in (None, False, True):
            clock.now += 10
            if use is None:
                async with store.open_blob(DIGEST):
                    pass
            else:
                await store.read(DIGEST, limit=len(CONTENT), use=use)
            used.append(clock.now - await store.last_used([DIGEST, Digest.of(b"other")]))

        assert [0, 10, 0] == used

    async def test_a_removed_blob_arrives_again(self, store: AnyStore, pread: Pread[Any]) -> None:
        """Gone is gone, and back is back."""
        await store.put(CONTENT, DESCRIPTOR)
        async with store.open_blob(DIGEST) as fd:
            assert {DIGEST: len(CONTENT)} == await store.remove([DIGEST, DIGEST])
            assert CONTENT == pread(fd, len(CONTENT), 0)

        assert store.find(DIGEST) is None
        assert {} == await store.remove([DIGEST])
        await arrive(store, CONTENT)
        assert CONTENT == await store.read(DIGEST, limit=len(CONTENT))

    async def test_usage_is_told(self, store: AnyStore) -> None:
        """What is arriving counts, and something is free."""
        ingest = await store.ingest(DIGEST)
        await ingest.write(0, [CONTENT])
        usage = await store.usage()
        await store.abort(ingest, OSError("done"))

        assert usage["ingest"] >= len(CONTENT)
        assert usage["free"] > 0
