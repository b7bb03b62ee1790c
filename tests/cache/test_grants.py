"""Grants and secrets of the index: who was let in, until when, and what outlives what."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cache.grants import KEPT, SECRET_SIZE, Grant
from cache.store import BlobStore

ONE, TWO = "ghcr.io/team/one", "ghcr.io/team/two"


@dataclass
class Time:
    now: float = 1_000_000.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def store(tmp_path: Path, time: Time) -> AsyncIterator[BlobStore]:
    async with BlobStore.open(tmp_path / "c", clock=lambda: time.now) as opened:
        yield opened


async def test_a_grant_is_for_one_repository_and_principal(store: BlobStore) -> None:
    """It covers neither another repository, nor what begins alike, nor another principal."""
    await store.grants.add(ONE, "uid:1", 60)

    assert [True, True, False, False, False, False] == [
        await store.grants.covers(ONE, ["uid:1"]),
        await store.grants.covers(ONE, ["*", "uid:1"]),
        await store.grants.covers(ONE, ["uid:10"]),
        await store.grants.covers(ONE, []),
        await store.grants.covers(TWO, ["uid:1"]),
        await store.grants.covers(f"{ONE}/more", ["uid:1"]),
    ]


async def test_a_grant_runs_out(store: BlobStore, time: Time) -> None:
    """At its end it covers nothing, is listed no more, and is known to have been there."""
    await store.grants.add(ONE, "uid:1", 60)
    time.now += 59
    before = await store.grants.covers(ONE, ["uid:1"])
    time.now += 1

    assert (True, False) == (before, await store.grants.covers(ONE, ["uid:1"]))
    assert [] == await store.grants.all()
    assert await store.grants.covers(ONE, ["uid:1"], expired=True)


async def test_a_new_proof_takes_the_old_one_s_place(store: BlobStore, time: Time) -> None:
    """There is one grant for each, and the last proof says how long it is good."""
    await store.grants.add(ONE, "uid:1", 600)
    await store.grants.add(ONE, "uid:1", 60)

    assert [Grant(ONE, "uid:1", time.now + 60)] == await store.grants.all()


@pytest.mark.parametrize(
    ("repository", "principal", "left"),
    [
        (ONE, None, [(TWO, "*"), (TWO, "uid:1")]),
        (None, "uid:1", [(ONE, "*"), (TWO, "*")]),
        (ONE, "uid:1", [(ONE, "*"), (TWO, "*"), (TWO, "uid:1")]),
        (None, None, []),
        ("", "", [(ONE, "*"), (ONE, "uid:1"), (TWO, "*"), (TWO, "uid:1")]),
    ],
)
async def test_what_is_revoked_is_gone(
    store: BlobStore, repository: str | None, principal: str | None, left: list[tuple[str, str]]
) -> None:
    """Those of a repository, of a principal, of both, or all; nothing of them is remembered."""
    every = [(name, who) for name in (ONE, TWO) for who in ("*", "uid:1")]
    for name, who in every:
        await store.grants.add(name, who, 60)
    gone = [(grant.repository, grant.principal) for grant in
            await store.grants.revoke(repository, principal)]  # fmt: skip

    assert left == [(grant.repository, grant.principal) for grant in await store.grants.all()]
    assert sorted(every) == sorted([*left, *gone])
    for name, who in every:
        known = await store.grants.covers(name, [who], expired=True)
        assert ((name, who) in left) == known


async def test_a_grant_that_ran_out_is_revoked_too(store: BlobStore, time: Time) -> None:
    """What was public is not so any more while its registry is away, once that was revoked."""
    await store.grants.add(ONE, "*", 60)
    time.now += 61
    await store.grants.revoke(ONE)

    assert not await store.grants.covers(ONE, ["*"], expired=True)


async def test_grants_and_secrets_outlive_a_restart(tmp_path: Path, time: Time) -> None:
    """Who was let in stays so, and a secret stays what it was; another name is another secret, and
    another cache has others."""
    kept = []
    for _ in range(2):
        async with BlobStore.open(tmp_path / "c", clock=lambda: time.now) as store:
            await store.grants.add(ONE, "uid:1", 60)
            kept.append([await store.grants.secret(name) for name in ("a", "b")])
            grants = await store.grants.all()
    async with BlobStore.open(tmp_path / "other") as other:
        elsewhere = await other.grants.secret("a")

    assert kept[0] == kept[1]
    assert 3 == len({*kept[0], elsewhere})
    assert {SECRET_SIZE} == {len(each) for each in kept[0]}
    assert [Grant(ONE, "uid:1", time.now + 60)] == grants


async def test_what_ran_out_long_ago_is_swept(tmp_path: Path, time: Time) -> None:
    """A grant is remembered for a month after its end, and then forgotten at the next start."""
    for wait in (60 + KEPT - 1, 2):
        async with BlobStore.open(tmp_path / "c", clock=lambda: time.now) as store:
            known = await store.grants.covers(ONE, ["*"], expired=True)
            if not known:
                await store.grants.add(ONE, "*", 60)
        time.now += wait
    async with BlobStore.open(tmp_path / "c", clock=lambda: time.now) as store:
        assert (True, False) == (known, await store.grants.covers(ONE, ["*"], expired=True))
