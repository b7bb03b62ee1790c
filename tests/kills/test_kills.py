"""Story: a daemon is killed in the middle of each kind of work; ``make kills`` does more of it."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

import pytest

from tests.kills.damage import Damaged, jump
from tests.kills.rig import Rig, rig
from tests.kills.rounds import Round, Scenario, Tally
from tests.kills.scenarios import scenarios
from tests.kills.steps import Mode

#: The instants that matter most: between two steps that belong together.
STEPS = [
    ("ingest", "fsync blobs", 2),  # a layer is there, and no row of it
    ("ingest", "rename listing", 1),
    ("resume", "open data", 1),
    ("many", "write journal", 2),
    ("tag", "write listing", 2),
    ("rmi", "unlink blob", 1),
    ("evict", "write listing", 1),  # names are gone from the one, not from the other
    ("push", "rename blob", 2),
    ("push through", "rename blob", 2),
    ("convert", "rename blob", 1),
    ("verify", "rename quarantine", 1),
    ("restore", "open listing", 1),
    ("restore", "pwrite wal", 90),
    ("migrate 1", "pwrite wal", 9),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A registry, daemons, and caches to begin from."""
    with rig(tmp_path_factory.mktemp("kills")) as made:
        yield made


@pytest.fixture(scope="module")
def work(made: Rig) -> dict[str, Scenario]:
    """What is killed, by name."""
    return {each.name: each for each in scenarios(made)}


def test_a_kill_at_the_steps_that_matter(made: Rig, work: dict[str, Scenario]) -> None:
    """No blob is wrong, no name lacks its content, nothing proven is fetched twice, nothing is left
    over; the daemon starts, and does what it was asked for."""
    tally = Tally()
    struck = [
        Round(made, tally, work[name]).kill(Mode.KILL, number, match=step)
        for name, step, number in STEPS
    ]

    assert [] == tally.violations
    assert [step for _, step, _ in STEPS] == struck


def test_a_disk_that_refuses(made: Rig, work: dict[str, Scenario]) -> None:
    """A write that fails is told in one line; what was held is given, and all goes on without a new
    start once the disk is well."""
    tally = Tally()
    for name, step, number, error, lasting in [
        ("ingest", "pwrite data", 2, errno.ENOSPC, False),
        ("ingest", "rename blob", 2, errno.EIO, True),
        ("tag", "pwrite wal", 1, errno.EIO, True),
        ("push", "pwrite upload", 1, errno.ENOSPC, True),
        ("rmi", "open listing", 2, errno.EIO, False),  # a name is gone, and index.json has it
    ]:
        look = Round(made, tally, work[name])
        assert step == look.fail(error, number, lasting=lasting, match=step)

    assert [] == tally.violations


def test_a_database_that_is_damaged_and_a_clock_that_jumps(
    made: Rig, work: dict[str, Scenario]
) -> None:
    """Cut, overwritten or deleted: content and names are there again. Years forth and back: too."""
    tally = Tally()
    damaged = Damaged(made, tally, random.Random(3))
    for number in range(3):
        damaged.round(number)
    jump(made, tally, -3.2e8)

    assert [] == tally.violations
