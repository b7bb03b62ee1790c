"""Quotas: what a user's images come to, and which of them go for what the user brings next."""

import os
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from cache.errors import QuotaExceeded
from cache.eviction import Busy, give_way
from cache.layout import blob_path
from tests.cache.plain_eviction import Table, numbered
from tests.cache.samples import blobs, layer, parent
from tests.cache.test_room import KIB, image, names
from tests.contract.blob_store import REPOSITORY

ANN, BOB = "uid:1", "uid:2"


@pytest.fixture
def quotas(store):
    """ann may hold 100 KiB, bob as much as he likes."""
    store.room.quotas.limit = lambda owner: 100 * KIB if owner == ANN else 0
    return store.room.quotas


def new(size):
    """A blob to come, of so many KiB."""
    return {Digest.of(str(size).encode()): size * KIB}


async def used(quotas, owner=ANN):
    (usage,) = await quotas.usage(owner)
    return usage.used // KIB, usage.images


async def test_what_images_come_to(store, clock, quotas):
    """What a user's images share counts once; another's count for nobody else, a pin counts while
    it lasts; an image without a name is nobody's."""
    own = [await image(store, clock, tag, size, 10) for tag, size in (("a", 20), ("b", 21))]
    other = await image(store, clock, "c", 30)
    for root in own:
        await quotas.hold(ANN, root.digest)
    await quotas.hold(BOB, other.digest)
    begun = await used(quotas)
    await store.pins.add(other.digest, name="mine", owner=ANN, ttl=60)
    pinned = await used(quotas)
    clock.now += 60
    await store.untag(f"{REPOSITORY}:b")

    assert ((51, 2), (81, 3)) == (begun, pinned)
    assert ((30, 1), (30, 1)) == (await used(quotas), await used(quotas, BOB))
    assert [ANN, BOB] == [each.owner for each in await quotas.usage()]


async def test_what_came_before_its_name_counts(store, quotas):
    """Whoever brings layers of a manifest that has no name yet holds the image once it has one."""
    content, own = layer("own")
    document, root, links = parent(own)
    await store.put(document, root, repository=REPOSITORY, links=links)
    await quotas.hold_above(ANN, REPOSITORY, own.digest)
    await quotas.hold_above(BOB, "example.test/other", own.digest)
    await store.put(content, own, repository=REPOSITORY)
    await quotas.hold(BOB, Digest.of(b"another"))
    before = await quotas.usage()
    await store.tag(f"{REPOSITORY}:1", REPOSITORY, root)

    assert [] == before
    assert [(ANN, 1)] == [(each.owner, each.images) for each in await quotas.usage()]
    await store.untag(f"{REPOSITORY}:1")
    await store.tag(f"{REPOSITORY}:2", REPOSITORY, root)
    assert [] == await quotas.usage()  # it was nobody's meanwhile


async def test_own_images_give_way(store, clock, quotas):
    """The longest unused go first, as few as need be; what another holds too stays here, and is
    hers no more; others' images are not looked at."""
    for tag, owners in (("0", [BOB]), ("1", [ANN, BOB]), ("2", [ANN]), ("3", [ANN]), ("4", [ANN])):
        root = await image(store, clock, tag, 20 + int(tag))
        for owner in owners:
            await quotas.hold(owner, root.digest)
    async with quotas.coming(ANN, new(40)):
        left = await names(store)
        with pytest.raises(QuotaExceeded, match=r"92160 bytes more .* your quota of 102400"):
            async with quotas.coming(ANN, new(90)):
                pass

    assert ["0", "1", "3", "4"] == left
    assert (47, 2) == await used(quotas)


async def test_what_is_shared_with_what_comes_may_go(store, clock, quotas):
    """An image gives way though it has a layer of the one that comes, if that layer is here."""
    for tag, own in (("a", 30), ("b", 31)):
        root = await image(store, clock, tag, 20, own)
        await quotas.hold(ANN, root.digest)
    (shared,) = [digest for digest, size in store.held.items() if size == 20 * KIB]
    async with quotas.coming(ANN, {shared: 20 * KIB, **new(40)}, missing=new(40)):
        assert ["b"] == await names(store)


@pytest.mark.parametrize("kept", ["pinned", "leased", "open", "alone"])
async def test_what_stays(store, clock, root, quotas, kept):
    """What is in use, pinned or nowhere else to be had does not go; then nothing does, and one line
    says so. Nobody else is refused, nor is what she has already."""
    held = await image(store, clock, "held", 60)
    await quotas.hold(ANN, held.digest)
    before = blobs(root)
    async with AsyncExitStack() as stack:
        if kept == "pinned":
            await store.pins.add_rule(f"{REPOSITORY}:*", ttl=None)
        elif kept == "leased":
            await (await stack.enter_async_context(store.lease())).hold(held.digest)
        elif kept == "open":
            fd = os.open(blob_path(root, held.digest), os.O_RDONLY)
            stack.callback(os.close, fd)
        else:
            store.room.bound(store.room.bounds, (f"{REPOSITORY.partition('/')[0]}/",))
        with pytest.raises(QuotaExceeded) as refused:
            async with quotas.coming(ANN, new(50)):
                pass
        async with quotas.coming(BOB, new(500)), quotas.coming("", new(500)):
            pass
        async with quotas.coming(ANN, {held.digest: held.size}):
            pass

    assert "\n" not in str(refused.value)
    assert before == blobs(root)
    async with quotas.coming(ANN, new(39)):  # no reservation was left behind
        pass


DIGESTS = [Digest.of(bytes([n])) for n in range(8)]
ROOTS = [Digest.of(bytes([n, 1])) for n in range(5)]


@given(
    st.lists(st.sets(st.sampled_from(DIGESTS)), min_size=5, max_size=5),
    st.lists(st.integers(0, 9), min_size=5, max_size=5),
    st.sets(st.sampled_from(ROOTS)), st.sets(st.sampled_from(ROOTS)),
    st.sets(st.sampled_from(DIGESTS), max_size=2), st.integers(1, 50),
)  # fmt: skip
def test_the_choice(needs, used, own, pinned, spared, wanted):
    """What is freed is what her images then hold less; it is enough, or all that may go; nothing
    goes that is pinned, spared or another's, and none before one that was used longer ago."""
    sizes = {digest: n + 1 for n, digest in enumerate(DIGESTS)} | dict.fromkeys(ROOTS, 1)
    table = Table(
        sizes=sizes,
        used=dict.fromkeys(DIGESTS, 0.0) | dict(zip(ROOTS, used, strict=True)),
        links={root: sorted(each, key=str) for root, each in zip(ROOTS, needs, strict=True)},
        names={root: [f"r/{n}"] for n, root in enumerate(ROOTS)},
        pinned=frozenset(pinned),
    )
    choice = give_way(numbered(table), Busy(alone=("local/",)), own, spared, wanted)
    gone = [each.digest for each in choice.going]

    def held(roots):
        return sum(sizes[d] for d in set().union(*map(table.closure, roots)))

    may = {root for root in own - pinned if table.closure(root).isdisjoint(spared)}
    order = {root: used[ROOTS.index(root)] for root in ROOTS}
    assert set(gone) <= may
    assert choice.freed == held(own) - held(own - set(gone))
    assert choice.freed >= wanted or set(gone) == may
    assert [order[root] for root in gone] == sorted(order[root] for root in gone)
    assert all(order[root] >= order[gone[-1]] for root in may - set(gone)) if gone else True
