"""Jobs told by one node to the others: who answers, who does not, who breaks off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from cache.errors import Fault
from registryd.cluster.beside import beside
from registryd.cluster.static import StaticCluster
from registryd.cluster_ports import ClusterNode
from registryd.jobs.board import Words
from registryd.jobs.fan_out import PATH, FanOut
from registryd.jobs.record import Job
from registryd.jobs.standing import Standing
from tests.contract.board import BoardContract, next_word
from tests.fakes.waiting import until
from tests.jobs.samples import job

#: What a node does that is told of a job: words to say, an error to end with.
Turn = list[Standing | bytes | Fault | asyncio.Event]


@dataclass
class Others:
    """The other nodes, by name: what each does, one turn for each time that it is told.

    ``open`` is how many are being told now.
    """

    turns: dict[str, list[Turn]] = field(default_factory=dict)
    told: list[tuple[str, str, Job]] = field(default_factory=list)
    open: int = 0

    @asynccontextmanager
    async def lines(
        self, node: ClusterNode, path: str, body: bytes
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Do what the next turn says; without one, refuse."""
        self.told.append((node.name, path, Job.decode(body)))
        turns = self.turns.get(node.name, [])
        turn = turns.pop(0) if turns else [Fault(f"peer {node.name}: nobody answers")]
        if isinstance(turn[0], Fault):
            raise turn[0]
        self.open += 1
        try:
            yield self._lines(turn)
        finally:
            self.open -= 1

    async def _lines(self, turn: Turn) -> AsyncIterator[bytes]:
        for what in turn:
            if isinstance(what, Fault):
                raise what
            if isinstance(what, asyncio.Event):
                await what.wait()
                continue
            yield what if isinstance(what, bytes) else what.encode() + b"\n"


def cluster() -> StaticCluster:
    """Three nodes, of which we are n1."""
    return StaticCluster("n1:5051", {f"n{number}:5051": "" for number in (1, 2, 3)})


def word(node: str, **members: object) -> Standing:
    """What a node says."""
    known = Standing("0123456789ab", f"{node}:5051", at=1000.0)
    return replace(known, **members)  # type: ignore[arg-type]


@asynccontextmanager
async def running(board: FanOut) -> AsyncIterator[Words]:
    """A board that works, and what is said of the job there."""
    work = beside(lambda: board.run(lambda job: None))
    async with work, board.following("0123456789ab") as words:
        yield words


class TestFanOut(BoardContract):
    """It is a board like any other."""

    @pytest.fixture
    def board(self) -> FanOut:
        """Of a node without others."""
        return FanOut(StaticCluster("n1:5051", {"n1:5051": ""}), Others())


async def test_everyone_is_told() -> None:
    """A job is told to all of its nodes but ours, and what they say is on our board."""
    others = Others({f"n{n}:5051": [[word(f"n{n}"), b"\n", word(f"n{n}", stage="done")]]
                     for n in (2, 3)})  # fmt: skip
    board = FanOut(cluster(), others)
    async with running(board) as words:
        await board.post(job())
        done = {(await next_word(words, "done")).node for _ in range(2)}

    assert {"n2:5051", "n3:5051"} == done
    assert [("n2:5051", PATH, job()), ("n3:5051", PATH, job())] == others.told


async def test_only_those_who_are_meant() -> None:
    """Nodes that a job is not for are not told; a job that was told to us is not told on."""
    others = Others({"n3:5051": [[word("n3", stage="done")]]})
    board = FanOut(cluster(), others)
    async with running(board) as words:
        board.put(job(id="b" * 12))
        await board.post(job(targets=("n3",)))
        await next_word(words, "done")

    assert ["n3:5051"] == [name for name, _, _ in others.told]


async def test_who_does_not_answer_has_failed() -> None:
    """A node that cannot be told has failed at once, and its line says why."""
    board = FanOut(cluster(), Others())
    async with running(board) as words:
        await board.post(job(targets=("n2",)))
        failed = await next_word(words, "failed")

    assert ("n2:5051", "peer n2:5051: nobody answers") == (failed.node, failed.error)


async def test_who_breaks_off_is_told_again() -> None:
    """A node that was at it and broke off is told again, until it has settled."""
    turns: list[Turn] = [
        [word("n2", stage="fetching"), Fault("peer n2:5051: it broke off")],
        [Fault("peer n2:5051: nobody answers")],
        [word("n2", stage="fetching")],
        [word("n2", stage="done")],
    ]
    others = Others({"n2:5051": turns})
    board = FanOut(cluster(), others)
    async with running(board) as words:
        await board.post(job(targets=("n2",)))
        await next_word(words, "done")

    assert 4 == len(others.told)


async def test_who_stays_away() -> None:
    """A node that broke off and does not come back has failed after a while."""
    others = Others({"n2:5051": [[word("n2", stage="fetching", here=5)]]})
    board = FanOut(cluster(), others, patience=0.0)
    async with running(board) as words:
        await board.post(job(targets=("n2",)))
        failed = await next_word(words, "failed")

    assert (5, "peer n2:5051: it stopped telling of the job") == (
        failed.here, failed.error
    )  # fmt: skip


async def test_words_of_others() -> None:
    """A node speaks for itself and of the job that it was told; nonsense is its failure."""
    lies: Turn = [word("n3", stage="done"), word("n2", job="b" * 12, stage="done"), b"{}\n"]
    board = FanOut(cluster(), Others({"n2:5051": [lies]}))
    async with running(board) as words:
        await board.post(job(targets=("n2",)))
        failed = await next_word(words, "failed")

    assert "not a node's word" in failed.error
    assert ["n2:5051"] == [each.node for each in await board.standings()]


async def test_a_new_revision_is_told_in_place_of_the_old() -> None:
    """When a job is cancelled, nobody is told the old revision any more."""
    others = Others({"n2:5051": [[word("n2", stage="fetching"), asyncio.Event()]]})
    board = FanOut(cluster(), others)
    async with running(board) as words:
        await board.post(job(targets=("n2",)))
        await next_word(words, "fetching")
        others.turns["n2:5051"] = [[word("n2", stage="cancelled", revision=2)]]
        await board.post(job(targets=("n2",)).cancelled())
        ended = await next_word(words, "cancelled")
        await until(lambda: others.open == 0)

    assert (2, 2) == (ended.revision, len(others.told))
    assert "cancelled" == others.told[-1][2].state
