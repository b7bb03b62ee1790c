"""What every blob store promises of what it keeps and tells: inherit ``KeptContentContract`` too.

The fixture is that of ``tests.contract.blob_store``.
"""

import asyncio

import pytest

from cache.errors import IngestAborted
from tests.cache.samples import layer, parent
from tests.contract.blob_store import (
    CONTENT,
    DESCRIPTOR,
    DIGEST,
    NAME,
    REPOSITORY,
    arrive,
    image,
    read,
)


class KeptContentContract:
    """The promises."""

    async def test_what_never_was_has_no_answer(self, store):
        """Nothing is known of a digest that nobody brought, and asking for it leaves nothing."""
        await image(store, "a")
        pins, made = store.pins, store.made

        assert [] == [*await store.children(DIGEST), *await made.of(DIGEST), *await pins.of(DIGEST)]
        assert {} == await store.closure(DIGEST, made=True)
        assert 0.0 == await store.last_used([DIGEST])
        assert not await store.is_complete(DESCRIPTOR)
        assert not await store.is_member(REPOSITORY, DIGEST)
        assert {} == await store.remove([DIGEST])
        assert 2 == len(store)

    async def test_readers_follow_at_their_own_pace(self, store):
        """Of the whole, of its middle and of its end, from before the first byte and from after."""
        ingest = await store.ingest(DIGEST, size=len(CONTENT))
        spans = [(0, None), (10, 2000), (len(CONTENT) - 5, None)]
        readers = [asyncio.ensure_future(read(ingest, *span)) for span in spans]
        await ingest.write(0, [CONTENT[:3000]])
        middle = await read(ingest, 500, 1500)
        await ingest.write(3000, [CONTENT[3000:]])
        await store.commit(ingest)
        late = await read(ingest, 7)

        assert [CONTENT[start:stop] for start, stop in spans] == await asyncio.gather(*readers)
        assert (CONTENT[500:1500], CONTENT[7:]) == (middle, late)

    async def test_an_upload_that_was_given_up_leaves_nothing(self, store):
        """Who follows is told why; the next one of the same bytes begins at their first."""
        ingest = await store.upload()
        await ingest.write(0, [CONTENT])
        await store.abort(ingest, OSError("cut"), discard=True)
        with pytest.raises(IngestAborted, match="cut"):
            await read(ingest)

        assert ([], None, 0) == (store.arriving(), store.find(DIGEST), store.size)
        assert DIGEST == await arrive(store, CONTENT)

    async def test_a_pin_keeps_content_until_it_is_taken_away(self, store):
        """With all that it needs, whoever pinned it too, though no name means it any more."""
        root, layers = await image(store, "a")
        everything = [root.digest, layers[0].digest]
        await store.pins.add(root.digest, name="mine", ttl=None)
        await store.pins.add(root.digest, name="mine", owner="uid:1", ttl=1000)
        await store.untag(NAME)

        assert {} == await store.remove(everything)
        await store.pins.drop("mine")
        assert {} == await store.remove(everything)
        await store.pins.drop("mine", owner="uid:1")
        assert set(everything) == set(await store.remove(everything))

    async def test_what_was_made_of_an_image_goes_with_it(self, store):
        """It is kept as long as that is, and counts with it; the image needs it for nothing."""
        root, layers = await image(store, "a")
        content, made, links = parent(layer("made")[1])
        await store.put(content, made, links=links)
        await store.made.record(root.digest, made)

        assert [made] == await store.made.of(root.digest)
        assert {} == await store.unreferenced()
        assert made.digest in await store.closure(root.digest, made=True)
        assert made.digest not in await store.closure(root.digest)
        assert (await store.resolve(NAME)).complete

        await store.untag(NAME)
        gone = await store.remove([root.digest, layers[0].digest, made.digest])
        assert {root.digest, layers[0].digest, made.digest} == set(gone)

    async def test_all_images_are_listed_at_once(self, store):
        """Complete ones, sorted, with what they have and have alone; among those asked for."""
        one, (shared, own) = await image(store, "shared", "own", name="a/x:1")
        two, _ = await image(store, "shared", name="b/y:1", tag=False)
        await store.tag("b/y:1", "b/y", two)
        content, partial, links = parent(layer("missing")[1])
        await store.put(content, partial, links=links)
        await store.tag("c/z:1", "c/z", partial)
        sizes = [one.size + shared.size + own.size, two.size + shared.size]
        listed = await store.catalogue.shown()
        alone = await store.catalogue.shown({"b/y"})

        assert ["a/x:1", "b/y:1"] == [row.entry.name for row in listed]
        assert sizes == [row.image.size for row in listed]
        assert [sizes[0] - shared.size, two.size] == [row.own for row in listed]
        assert [("b/y:1", sizes[1])] == [(row.entry.name, row.own) for row in alone]
        assert 2 == await store.catalogue.count()
