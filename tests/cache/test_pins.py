"""Pins of the index: what they keep, from whom, until when, and that a restart ends none."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cache.content import Descriptor, Digest
from cache.store import BlobStore

CONTENT = b"kept"
DIGEST = Digest.of(CONTENT)


@dataclass
class Time:
    now: float = 1_000_000.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def store(tmp_path: Path, time: Time) -> AsyncIterator[BlobStore]:
    async with BlobStore.open(tmp_path / "c", clock=lambda: time.now) as opened:
        await opened.put(CONTENT, Descriptor("x/y", DIGEST, len(CONTENT)))
        yield opened


async def test_a_pin_keeps_until_it_runs_out(store: BlobStore, time: Time) -> None:
    """Pinned content is not removed; from the end of its pin on nothing keeps it."""
    await store.pins.add(DIGEST, name="mine", ttl=60)
    time.now += 59
    before = await store.remove([DIGEST])
    time.now += 1

    assert {} == before
    assert [] == await store.pins.all()
    assert {DIGEST: len(CONTENT)} == await store.remove([DIGEST])


async def test_each_ends_their_own(store: BlobStore) -> None:
    """Of two owners' pins of one name one can be ended; while another is there, content stays."""
    await store.pins.add(DIGEST, name="mine", ttl=None)
    await store.pins.add(DIGEST, name="mine", owner="uid:7", ttl=None)
    gone = await store.pins.drop("mine")

    assert ([""], ["uid:7"]) == (
        [pin.owner for pin in gone],
        [pin.owner for pin in await store.pins.of(DIGEST)],
    )
    assert {} == await store.remove([DIGEST])
    assert [] == await store.pins.drop("mine")
    await store.pins.drop("mine", owner="uid:7")
    assert {DIGEST} == set(await store.remove([DIGEST]))


async def test_a_pin_outlives_the_process(tmp_path: Path, time: Time) -> None:
    """What was pinned before a restart is pinned after it, and ends when it was said to."""
    for _ in range(2):
        async with BlobStore.open(tmp_path / "c", clock=lambda: time.now) as store:
            if store.find(DIGEST) is None:
                await store.put(CONTENT, Descriptor("x/y", DIGEST, len(CONTENT)))
                await store.pins.add(DIGEST, name="job:1", reference="a.io/b:1", ttl=60)
            kept = await store.remove([DIGEST])
            pins = await store.pins.all()

    assert {} == kept
    assert [("job:1", "a.io/b:1", time.now + 60)] == [
        (p.name, p.reference, p.expires) for p in pins
    ]
