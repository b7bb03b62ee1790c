"""What every blob store promises of what it keeps and tells: inherit ``KeptContentContract`` too.

The fixtures are those of ``tests.contract.blob_store``.
"""

from tests.cache.samples import layer, parent
from tests.contract.blob_store import DESCRIPTOR, DIGEST, NAME, REPOSITORY, image, known
from tests.contract.store import AnyStore


class KeptContentContract:
    """The promises."""

    async def test_what_never_was_has_no_answer(self, store: AnyStore) -> None:
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

    async def test_a_pin_keeps_content_until_it_is_taken_away(self, store: AnyStore) -> None:
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

    async def test_what_was_made_of_an_image_goes_with_it(self, store: AnyStore) -> None:
        """It is kept as long as that is, and counts with it; the image needs it for nothing."""
        root, layers = await image(store, "a")
        content, made, links = parent(layer("made")[1])
        await store.put(content, made, links=links)
        await store.made.record(root.digest, made)

        assert [made] == await store.made.of(root.digest)
        assert {} == await store.unreferenced()
        assert made.digest in await store.closure(root.digest, made=True)
        assert made.digest not in await store.closure(root.digest)
        assert (await known(store)).complete

        await store.untag(NAME)
        gone = await store.remove([root.digest, layers[0].digest, made.digest])
        assert {root.digest, layers[0].digest, made.digest} == set(gone)

    async def test_all_images_are_listed_at_once(self, store: AnyStore) -> None:
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
