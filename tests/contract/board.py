"""What every board of jobs does, wherever it is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from registryd.cluster.beside import beside
from registryd.jobs.board import Board, Words
from registryd.jobs.errors import Outrun
from registryd.jobs.record import Job
from registryd.jobs.standing import Standing
from tests.jobs.samples import job

LIMIT = 20.0


async def next_word(words: Words, stage: str) -> Standing:
    """The next word of this stage."""
    async with asyncio.timeout(LIMIT):
        while (word := await words.get()).stage != stage:
            pass
    return word


class BoardContract:
    """Subclasses give the fixture ``board``."""

    async def test_a_job_reaches_the_worker(self, board: Board) -> None:
        """Each revision of a job is given to the worker; the list has the newest."""
        taken: asyncio.Queue[Job] = asyncio.Queue()
        async with beside(lambda: board.run(taken.put_nowait)), asyncio.timeout(LIMIT):
            await board.post(job())
            first = await taken.get()
            await board.post(job().cancelled())
            second = await taken.get()

        assert [job(), job().cancelled()] == [first, second]
        assert [job().cancelled()] == await board.jobs()

    async def test_what_was_put_up_before(self, board: Board) -> None:
        """A worker that begins later has what is on the board, in its newest revision."""
        await board.post(job())
        await board.post(job(id="b" * 12))
        taken: asyncio.Queue[Job] = asyncio.Queue()
        async with beside(lambda: board.run(taken.put_nowait)), asyncio.timeout(LIMIT):
            found = {(await taken.get()).id for _ in range(2)}

        assert {"0123456789ab", "b" * 12} == found

    async def test_one_revision_is_refused(self, board: Board) -> None:
        """A revision that is there already is not overwritten."""
        await board.post(job())
        await board.post(job().cancelled())

        for late in (job(), job().renewed(job().images, ())):
            with pytest.raises(Outrun, match="0123456789ab"):
                await board.post(late)
        assert [job().cancelled()] == await board.jobs()

    async def test_words_are_followed(self, board: Board) -> None:
        """Who follows a job hears what was said of it, and what is said; not of other jobs."""
        word = Standing("0123456789ab", "n1.example", at=1000.0)
        async with beside(lambda: board.run(lambda job: None)):
            await board.post(job())
            board.tell(replace(word, job="b" * 12, stage="failed"))
            board.tell(word)
            async with board.following("0123456789ab") as words:
                first = await next_word(words, "waiting")
                board.tell(replace(word, stage="done", here=5, total=5))
                last = await next_word(words, "done")
            found = await board.standings("0123456789ab")
            both = await board.standings()

        assert word == first
        assert replace(word, stage="done", here=5, total=5) == last
        assert [last] == found
        assert {"0123456789ab", "b" * 12} == {each.job for each in both}
