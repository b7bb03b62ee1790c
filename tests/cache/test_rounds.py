"""Rounds: every blob read once in a period, the longest unread first, whatever clocks do."""

import asyncio

import pytest

from cache.content import Digest
from cache.quarantine import MOST_BYTES, MOST_FILES, beyond
from cache.reading import READ, TOGETHER, Reading, groups
from cache.rounds import BATCH, LONGEST, SHORTEST, Rounds
from cache.store import BlobStore
from tests.cache.samples import noise
from tests.cache.test_scrub import flip, overwrite
from tests.contract.blob_store import arrive

MONTH = 30 * 86400.0


async def rounds(store, period=MONTH):
    """The rounds of a store, and the digests in the order in which they were read."""
    read = []

    async def pace(count):
        read.append(count)

    made = Rounds(store.scrub, pace)
    made.change(period)
    return made, read


async def look(store, made):
    """One look, with the store's own threads."""
    return await made.look(store._io)


async def test_what_was_read_longest_ago_comes_first(store, clock):
    """An arrival is a proof, and so is a verify: a blob is due a period after its last one."""
    sizes = [3, 4, 5]
    digests = []
    for size in sizes:
        digests.append(await arrive(store, noise(size, size)))
        clock.now += 1000
    made, read = await rounds(store)
    fresh = await look(store, made), list(read)
    clock.now += MONTH - 2500
    await store.scrub.prove(digests[0], lambda at, size: None)
    rest = await look(store, made), list(read)
    order = await store.scrub.due(0, 10)
    clock.now += 1500
    await look(store, made)

    assert (LONGEST, []) == fresh
    assert (500.0, []) == rest
    assert [digests[1], digests[2], digests[0]] == order
    assert [4 + 5] == read
    assert await store.scrub.since() == clock.now - 1500


async def test_a_process_that_ends_goes_on_where_it_stopped(root, clock):
    """What was proven is written down: the next process begins with the rest."""
    async with BlobStore.open(root, clock=clock) as store:
        for seed in range(3):
            await arrive(store, noise(READ, seed))
            clock.now += 1
        clock.now += MONTH
        seen = []

        async def pace(count):
            seen.append(count)
            if len(seen) == 2:
                raise asyncio.CancelledError

        made = Rounds(store.scrub, pace)
        made.change(MONTH)
        with pytest.raises(asyncio.CancelledError):
            await look(store, made)
    async with BlobStore.open(root, clock=clock) as store:
        made, read = await rounds(store)
        await look(store, made)

    assert [READ] * 2 == seen
    assert [READ] * 2 == read


@pytest.mark.parametrize("jump", [-10 * MONTH, 10 * MONTH])
async def test_a_clock_that_jumps_makes_nothing_spin_or_stand_still(store, clock, jump):
    """Forward: each blob is read once. Back: what claims a proof of the future is read within one
    period of the clock that is now."""
    await arrive(store, noise(3))
    await arrive(store, noise(4))
    clock.now += jump
    made, _ = await rounds(store)
    rest = await look(store, made)
    at_once = store.scrub.counts["blobs"]
    clock.now += MONTH
    await look(store, made)

    assert LONGEST == rest
    assert (2 if jump > 0 else 0) == at_once
    assert at_once + 2 == store.scrub.counts["blobs"]


async def test_a_period_that_is_too_short_reads_each_once_a_look(store, clock):
    """However much is due, one look ends; without a period nothing is read."""
    await arrive(store, noise(3))
    made, read = await rounds(store, 0.001)
    clock.now += 1
    rest = await look(store, made)
    made.change(0)
    off = await look(store, made)

    assert ([3], SHORTEST, LONGEST) == (read, rest, off)


class Shelf:
    """A scrub of so many blobs, all due; what was proven of them is written down, or cannot be."""

    def __init__(self, count, *, writes):
        self.due_still = [Digest.of(str(number).encode()) for number in range(count)]
        self.limits = []
        self._writes = writes

    async def due(self, age, limit):
        self.limits.append(limit)
        return self.due_still[:limit]

    async def prove_all(self, digests, *_, **__):
        if self._writes:
            self.due_still = [each for each in self.due_still if each not in set(digests)]

    async def write(self):
        return

    async def since(self):
        return None


@pytest.mark.parametrize(("writes", "most"), [(True, 2 * BATCH), (False, 6 * BATCH)])
async def test_a_look_asks_for_a_few_at_a_time(writes, most):
    """However many blobs were read in it; what cannot be written down is not asked for in vain."""
    shelf = Shelf(5 * BATCH, writes=writes)
    made = Rounds(shelf, None)
    made.change(MONTH)
    await made.look(None)

    assert (6, most) == (len(shelf.limits), max(shelf.limits))


async def test_what_cannot_be_judged_is_not_condemned(store, clock, root):
    """That a file cannot be opened or read now is no verdict: it stays, the others are read."""
    odd = await arrive(store, noise(3))
    clock.now += 1
    await arrive(store, noise(4))
    clock.now += MONTH
    path = store.find(odd).path
    path.unlink()
    path.mkdir()
    made, _ = await rounds(store)
    rest = await look(store, made)

    assert LONGEST == rest
    assert store.find(odd) is not None
    assert (1, 0) == (store.scrub.counts["blobs"], store.scrub.counts["bad"])
    assert not (root / "quarantine").exists()


async def test_the_daemon_s_rounds_find_what_is_wrong_and_end_at_once(store, clock):
    """A change of the period is heeded at once; who watches is told; a reader of it is stopped."""
    bad = await arrive(store, noise(3))
    check = store.scrub.still_good(bad)
    check()
    overwrite(store.find(bad).path, flip)
    found = asyncio.Queue()
    store.scrub.watch(found.put_nowait)
    made, _ = await rounds(store, 0)
    task = asyncio.create_task(made.keep())
    made.change(0.001)
    clock.now += 1
    told = await found.get()
    task.cancel()
    await asyncio.wait([task])

    assert bad == told.digest
    with pytest.raises(Exception, match="found to be damaged while it was read"):
        check()
    store.scrub.still_good(bad)()


async def test_a_file_that_is_too_long_is_read_no_further(store):
    """What comes after the last byte says nothing more; how long it is, is told."""
    digest = await arrive(store, noise(3))
    overwrite(store.find(digest).path, lambda path: path.write_bytes(noise(READ)))
    reading = Reading(store._files, digest, 3)

    assert (False, READ) == (await store._io(reading.step, READ // 2), reading.at)


def test_small_blobs_are_read_together():
    """So many, and so many bytes at once; a large one alone, and all in their order."""
    small = [(number, 10) for number in range(TOGETHER + 1)]
    mixed = [("a", 1), ("b", READ), ("c", 2), ("d", 3), ("e", 7)]

    assert [TOGETHER, 1] == [len(group) for group in groups(small, READ)]
    assert ["a", "b", "cd", "e"] == ["".join(d for d, _ in group) for group in groups(mixed, 10)]
    assert [] == list(groups([], READ))


def test_a_quarantine_is_bounded():
    """The newest stay, so many and so large together; the last one whatever its size."""
    small = [(at, 1, str(at)) for at in range(MOST_FILES + 2)]
    large = [(1, 5, "old"), (2, MOST_BYTES, "second"), (3, 2 * MOST_BYTES, "newest")]
    mixed = [(1, 5, "a"), (2, MOST_BYTES, "b"), (3, 5, "c")]

    assert ["1", "0"] == beyond(small)
    assert ["second", "old"] == beyond(large)
    assert ["b"] == beyond(mixed)
