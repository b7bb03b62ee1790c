"""The board in memory, and the one of streams: the contract, and what is each one's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from registryd.cluster.beside import beside
from registryd.cluster.nats_link import NatsLink
from registryd.cluster_config import ClusterConfig
from registryd.jobs.board import KEPT, MemoryBoard
from registryd.jobs.errors import BoardUnreachable
from registryd.jobs.record import Job
from registryd.jobs.standing import Standing
from registryd.jobs.streams import StreamBoard
from tests.contract.board import LIMIT, BoardContract, next_word
from tests.fakes.waiting import until
from tests.jobs.samples import job
from tests.real.nats import NatsServer, nats_cluster, nats_server


class TestMemoryBoard(BoardContract):
    """In one process."""

    @pytest.fixture
    def board(self) -> MemoryBoard:
        """A board of its own."""
        return MemoryBoard()


async def test_memory_has_a_limit() -> None:
    """The oldest jobs go, with what was said of them, when there are too many."""
    board = MemoryBoard()
    await board.post(job())
    board.tell(Standing("0123456789ab", "n1"))
    for number in range(KEPT):
        await board.post(job(id=f"{number:012x}"))

    assert KEPT == len(await board.jobs())
    assert [] == await board.standings()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of its own."""
    with nats_server(tmp_path / "nats") as running:
        yield running


def config(*servers: NatsServer) -> ClusterConfig:
    """The cluster of a node that uses these servers."""
    file = Path("/nowhere")
    urls = tuple(each.url for each in servers)
    return ClusterConfig(nats=urls, ca_file=file, cert=file, key=file)


@pytest.fixture
async def link(server: NatsServer) -> AsyncIterator[NatsLink]:
    """A link that has connected."""
    async with NatsLink.open(config(server), name="n1") as link:
        await until(lambda: link.connected)
        yield link


class TestStreamBoard(BoardContract):
    """Over a real server."""

    @pytest.fixture
    def board(self, link: NatsLink) -> StreamBoard:
        """A board on streams that are not there yet."""
        return StreamBoard(link, "registryd.hpc")


async def test_another_node_s_board(link: NatsLink, server: NatsServer) -> None:
    """What one node puts up and says, another one has; of two changes at once one is refused."""
    async with NatsLink.open(config(server), name="n2") as second:
        await until(lambda: second.connected)
        ours, theirs = StreamBoard(link, "registryd.hpc"), StreamBoard(second, "registryd.hpc")
        await ours.post(job())
        word = Standing("0123456789ab", "n2", stage="done", at=1000.0)
        async with beside(lambda: theirs.run(lambda job: None)):
            theirs.tell(word)
            async with ours.following("0123456789ab") as words:
                heard = await next_word(words, "done")
        seen = await theirs.jobs()
        await theirs.post(job().cancelled())
        with pytest.raises(Exception, match="was changed meanwhile"):
            await ours.post(replace(job(), revision=2))

    assert (word, [job()]) == (heard, seen)


async def test_another_cluster_s_board(link: NatsLink) -> None:
    """Two clusters on one server do not see each other's jobs."""
    await StreamBoard(link, "registryd.hpc").post(job())

    assert [] == await StreamBoard(link, "registryd.other").jobs()


async def test_the_server_comes_back(link: NatsLink, server: NatsServer) -> None:
    """Killed and started again, the server has the jobs; boards go on by themselves."""
    board, taken = StreamBoard(link, "registryd.hpc"), asyncio.Queue[Job]()
    word = Standing("0123456789ab", "n1", at=1000.0)
    async with beside(lambda: board.run(taken.put_nowait)), asyncio.timeout(3 * LIMIT):
        await board.post(job())
        await taken.get()
        async with board.following("0123456789ab") as words:
            board.tell(word)
            await next_word(words, "waiting")
            server.kill()
            await until(lambda: not link.connected)
            board.tell(replace(word, stage="done"))
            with pytest.raises(BoardUnreachable, match="out of reach"):
                await board.jobs()
            await asyncio.to_thread(server.start)
            await next_word(words, "done")
        await board.post(job().cancelled())
        while (await taken.get()).state != "cancelled":
            pass

    assert [job().cancelled()] == await board.jobs()


async def test_no_jetstream(tmp_path: Path) -> None:
    """A server without JetStream is one clear line."""
    with nats_server(tmp_path / "nats", "jetstream: disabled") as plain:
        async with NatsLink.open(config(plain), name="n1") as link:
            await until(lambda: link.connected)
            with pytest.raises(BoardUnreachable, match="JetStream"):
                await StreamBoard(link, "registryd.hpc").post(job())


NEEDED = '"registryd.hpc.>", "$JS.API.>", "_INBOX.>"'


async def test_what_a_user_of_nats_must_be_allowed(tmp_path: Path) -> None:
    """A user who may use the subjects that docs/prefetch.md names can keep jobs."""
    allowed = f"publish: [{NEEDED}], subscribe: [{NEEDED}]"
    user = f"{{user: u, password: p, permissions: {{{allowed}}}}}"
    login = tmp_path / "login"
    login.write_text("u:p\n")
    login.chmod(0o600)
    with nats_server(tmp_path / "nats", f"authorization {{ users: [{user}] }}") as server:
        narrow = replace(config(server), nats_credentials=login)
        async with NatsLink.open(narrow, name="n1") as link:
            await until(lambda: link.connected)
            board, taken = StreamBoard(link, "registryd.hpc"), asyncio.Queue[Job]()
            async with beside(lambda: board.run(taken.put_nowait)), asyncio.timeout(LIMIT):
                await board.post(job())
                await taken.get()
                board.tell(Standing("0123456789ab", "n1", at=1.0))
                async with board.following("0123456789ab") as words:
                    await next_word(words, "waiting")

            assert [job()] == await board.jobs()


async def test_strangers_on_the_subjects(link: NatsLink) -> None:
    """What is no record of ours is passed over, and a job that follows it can be put up."""
    board = StreamBoard(link, "registryd.hpc")
    assert [] == await board.jobs()
    js = link.jetstream()
    for content in (b"", b"{}", b"\xff", job(id="b" * 12).encode()):
        await js.publish("registryd.hpc.jobs.0123456789ab", content)
        await js.publish("registryd.hpc.progress.0123456789ab.bjE", content)
    lie = Standing("0123456789ab", "n1", stage="done", at=1.0)
    await js.publish("registryd.hpc.progress.0123456789ab.bjI", lie.encode())

    assert ([], []) == (await board.jobs(), await board.standings())
    await board.post(job())
    assert [job()] == await board.jobs()


async def test_three_servers(tmp_path: Path) -> None:
    """Where several servers are one cluster, each stream has three copies."""
    with nats_cluster(tmp_path / "nats") as servers:
        async with NatsLink.open(config(*servers), name="n1") as link:
            await until(lambda: link.connected)
            board = StreamBoard(link, "registryd.hpc")
            await board.post(job())
            info = await link.jetstream().stream_info("registryd-hpc-jobs")

            assert [job()] == await board.jobs()
    assert 3 == info.config.num_replicas
