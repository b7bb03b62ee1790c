"""A store within its bounds: what is let in, what goes for it, and that nothing goes in vain."""

import asyncio
import os

import pytest

from cache.bounds import Bounds
from cache.content import Digest
from cache.errors import DiskFull
from cache.eviction import GRACE, OPEN, PINNED
from cache.layout import blob_path
from cache.opened import opened
from cache.spool import put_whole
from tests.cache.samples import arriving, blobs, entries, layer, noise, parent
from tests.contract.blob_store import REPOSITORY, arrive
from tests.fakes.waiting import until

KIB = 1 << 10


async def image(store, clock, tag, *sizes):
    """An image of layers of these many KiB, a second after the one before."""
    clock.now += 1
    layers = []
    for size in sizes:
        content = noise(size * KIB, seed=size)
        await arrive(store, content)
        layers.append(layer("")[1].of("application/x", content))
    content, root, links = parent(*layers)
    await store.put(content, root, links=links)
    await store.tag(f"{REPOSITORY}:{tag}", REPOSITORY, root)
    return root


async def names(store):
    return [entry.name.rpartition(":")[2] for entry in await store.names()]


async def begin(store, content):
    """A fetch that has been let in, and has brought nothing yet."""
    ingest = await store.ingest(Digest.of(content), size=len(content))
    try:
        await store.room.let_in(ingest, len(content))
    except DiskFull as error:
        await store.abort(ingest, error)
        raise
    return ingest


async def test_what_is_let_in_makes_the_longest_unused_go(store, clock, root):
    """The image that was used longest ago goes by name and content, down to the low mark, before
    a byte comes; what it shares stays."""
    await image(store, clock, "old", 30, 1)
    await image(store, clock, "new", 31, 1)
    store.room.bound(Bounds(100 * KIB))
    ingest = await begin(store, noise(45 * KIB))
    await ingest.write(0, [noise(45 * KIB)])
    await store.commit(ingest)

    assert ["new"] == await names(store)
    assert [f"{REPOSITORY}:new"] == list(entries(root))
    assert 32 * KIB + 45 * KIB < store.size < 80 * KIB
    assert {"blobs": 2} == {"blobs": store.removed["blobs"]}


async def test_nothing_goes_for_what_does_not_fit(store, clock, root):
    """Where what may go is not enough, everything stays, and one line says what is missing."""
    await image(store, clock, "may go", 30)
    kept = await image(store, clock, "pinned", 31)
    await store.pins.add(kept.digest, name="mine", ttl=None)
    store.room.bound(Bounds(100 * KIB))
    before = blobs(root)
    with pytest.raises(DiskFull, match="have to go, and only") as refused:
        await begin(store, noise(70 * KIB))

    assert (before, []) == (blobs(root), store.arriving())
    assert str(root) in str(refused.value)
    assert "\n" not in str(refused.value)
    await store.abort(await begin(store, noise(60 * KIB)), ValueError())
    assert ["pinned"] == await names(store)


async def test_what_is_here_is_not_refused(store, clock):
    """When there is no room at all, what is held can be put and named again; nothing else comes."""
    root = await image(store, clock, "held", 30)
    await store.pins.add(root.digest, name="mine", ttl=None)
    content, descriptor = layer("held too")
    await store.put(content, descriptor)
    store.room.bound(Bounds(10 * KIB))
    await store.put(content, descriptor)
    for coming in (store.put(*layer("new")), store.upload(), begin(store, b"more")):
        with pytest.raises(DiskFull):
            await coming

    assert (["held"], []) == (await names(store), store.arriving())


async def test_two_do_not_get_the_same_room(store, root):
    """What was let in counts at its whole size before it has come, until it is given up."""
    store.room.bound(Bounds(100 * KIB))
    first = await begin(store, noise(60 * KIB, seed=1))
    with pytest.raises(DiskFull):
        await begin(store, noise(60 * KIB, seed=2))
    await store.abort(first, ValueError(), discard=True)
    second = await begin(store, noise(60 * KIB, seed=2))

    assert 60 * KIB == store.room.used()
    await store.abort(second, ValueError(), discard=True)
    assert [] == arriving(root)


async def test_what_is_leased_pinned_open_or_alone_stays(store, clock, root):
    """However much is wanted, it stays whole: a lease, a pin, an open file, a name of our own."""
    roots = {tag: await image(store, clock, tag, size) for size, tag in enumerate("abcd", 1)}
    await image(store, clock, "goes", 9)
    await store.pins.add(roots["b"].digest, name="mine", ttl=None)
    held = next(digest for digest in await store.closure(roots["c"].digest))
    store.room.bound(Bounds(), (f"{REPOSITORY}:d",))
    async with store.lease() as lease, store.open_blob(held):
        await lease.hold(roots["a"].digest)
        planned = await store.room.plan(1 << 30)
        done = await store.room.collect(1 << 30)

    assert planned == done
    assert [f"{REPOSITORY}:goes"] == [name for each in done.going for name in each.names]
    assert list("abcd") == await names(store)
    assert {OPEN} == {each.why for each in done.staying if each.digest == roots["c"].digest}
    assert set(store.held) == blobs(root)


async def test_what_was_made_of_an_image_goes_with_it(store, clock, root):
    """A conversion keeps its image from nothing, and goes in the same step."""
    made = await image(store, clock, "old", 5)
    document, descriptor, links = parent(layer("squashed")[1])
    await store.put(*layer("squashed"))
    await store.put(document, descriptor, links=links)
    await store.made.record(made.digest, descriptor)
    done = await store.room.collect(1)

    assert [4] == [len(each.frees) for each in done.going]
    assert set() == blobs(root)


async def test_what_has_just_come_is_not_spare_yet(store, clock):
    """A blob that nothing names stays for an hour: its manifest may be on its way."""
    content, descriptor = layer("pushed")
    await store.put(content, descriptor)
    early = await store.room.collect()
    clock.now += GRACE
    late = await store.room.collect()

    assert () == early.going
    assert {descriptor.digest} == late.digests


async def test_the_high_mark_is_kept_in_the_background(store, clock):
    """When content whose size nobody knew passes the high mark, older content goes to the low; a
    bound that has become lower is kept at once."""
    await image(store, clock, "old", 40)
    store.room.bound(Bounds(100 * KIB))
    keeping = asyncio.ensure_future(store.room.keep())
    await image(store, clock, "new", 51)
    await until(lambda: store.size < 80 * KIB)
    first = await names(store)
    store.room.bound(Bounds(50 * KIB))
    await until(lambda: not store.size)
    keeping.cancel()

    assert (["new"], []) == (first, await names(store))


async def test_a_lease_taken_since_the_choice_keeps_the_name(store, clock):
    """Who holds an image after it was chosen has it whole, by its name."""
    root = await image(store, clock, "old", 5)
    choice = await store.room.plan(1)
    async with store.lease() as lease:
        await lease.hold(root.digest)
        done = await store.room._carry_out(choice)

    assert () == done
    assert ["old"] == await names(store)


async def test_a_name_that_has_moved_since_stays(store, clock, root):
    """A name that means another image by now is not taken; what it meant before goes."""
    old = await image(store, clock, "app", 5)
    choice = await store.room.plan(1)
    new = await image(store, clock, "app", 6)
    await store.room._carry_out(choice)

    assert {f"{REPOSITORY}:app": str(new.digest)} == entries(root)
    assert (None, True) == (store.find(old.digest), await store.is_complete(new))


def test_open_files_are_seen(files):
    """A blob is open as long as any descriptor of its file is, of whichever process."""
    content, descriptor = layer("read")
    digest = descriptor.digest
    put_whole(files, content, digest)
    before = opened(files.root, [digest])
    fd = files.open_blob(digest)
    held = opened(files.root, [digest])
    os.close(fd)

    assert (set(), {digest}, set()) == (before, held, opened(files.root, [digest]))


def test_what_has_another_name_counts_as_open(files):
    """Taking one of two names away would free nothing: the gateway keeps images by a second one."""
    content, descriptor = layer("linked")
    digest = descriptor.digest
    put_whole(files, content, digest)
    other = files.root / "other"
    other.hardlink_to(blob_path(files.root, digest))
    linked = opened(files.root, [digest])
    other.unlink()

    assert ({digest}, set()) == (linked, opened(files.root, [digest]))


async def test_a_rule_keeps_what_has_its_name(store, clock):
    """What a pattern means stays, also what came after it, until the rule runs out by the store's
    clock; one of the configuration stays for good."""
    store.room.bound(Bounds(100 * KIB))
    await store.pins.add_rule(f"{REPOSITORY}:a*", ttl=60)
    store.pins.always = (f"{REPOSITORY}:b*",)
    for tag, size in (("a1", 30), ("b1", 31), ("c1", 32)):
        await image(store, clock, tag, size)
    with pytest.raises(DiskFull):
        await begin(store, noise(50 * KIB))
    await store.abort(await begin(store, noise(30 * KIB)), ValueError())
    kept = await names(store)
    why = {each.names: each.why for each in (await store.room.plan(1 << 30)).staying}
    clock.now += 60
    await store.abort(await begin(store, noise(50 * KIB)), ValueError())

    assert ["a1", "b1"] == kept
    assert {PINNED} == set(why.values())
    assert ["b1"] == await names(store)
    assert [True] == [each.configured for each in await store.pins.rules()]


async def test_a_rule_that_came_since_the_decision(store, clock):
    """What a rule means by now keeps its name, whatever was decided before."""
    root = await image(store, clock, "a1", 3)
    going = (await store.room.plan(1 << 30)).going
    await store.pins.add_rule(f"{REPOSITORY}:a*", ttl=None)

    assert [root.digest] == [each.digest for each in going]
    assert [] == await store.room._forget(going)
    assert ["a1"] == await names(store)


async def test_what_was_broken_off_goes_first(store, clock, root):
    """Leftovers count, and go before any image, the oldest first and no more than needed."""
    await image(store, clock, "stays", 30)
    for size in (20, 21):
        content = noise(40 * KIB, seed=size)
        left = await store.ingest(Digest.of(content), size=len(content))
        await left.write(0, [content[: size * KIB]])
        await store.abort(left, ValueError("broken off"))
        path = root / "ingest" / f"{left.key}.data"
        os.utime(path, (size, size))
    store.room.bound(Bounds(100 * KIB, high=100, low=100))
    await store.abort(await begin(store, noise(45 * KIB)), ValueError())

    assert ["stays"] == await names(store)
    assert [path.name] == [each.name for each in root.glob("ingest/*.data")]
