"""Who is there, over a real nats-server: nodes that come, leave, die, and servers that do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from registryd.cluster.beats import Beat, Kind
from registryd.cluster.nats_cluster import NatsCluster
from registryd.cluster.presence import Timing
from tests.contract.cluster import ClusterContract, Watcher
from tests.fakes.waiting import until
from tests.real.nats import NatsServer, free_ports, nats_cluster, nats_server
from tests.real.nats_nodes import QUICK, linked, names, node, nodes, process

ALL = ["n1", "n2", "n3"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of its own."""
    with nats_server(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def three(server: NatsServer) -> AsyncIterator[list[NatsCluster]]:
    """Three nodes that know one another."""
    async with nodes(3, server.url) as found:
        yield found


async def all_know(clusters: list[NatsCluster], expected: list[str], limit: float = 20.0) -> None:
    """Wait until everyone knows these and nobody else."""
    await until(lambda: all(names(each) == expected for each in clusters), limit)


async def hear_more(clusters: list[NatsCluster]) -> None:
    """Wait until everyone has heard three more beats of each."""
    wanted = [each.presence.taken + 3 * len(clusters) for each in clusters]
    await until(
        lambda: all(
            each.presence.taken >= count for each, count in zip(clusters, wanted, strict=True)
        )
    )


class TestNats(ClusterContract):
    """Three nodes, as the first one sees them."""

    kind = "nats"

    @pytest.fixture
    def cluster(self, three: list[NatsCluster]) -> NatsCluster:
        """The first."""
        return three[0]


async def test_what_nodes_know_of_others(server: NatsServer) -> None:
    """A name, a place to dial, a zone, and what the other one tells of itself."""
    async with (
        node("n1", server.url, listen="0.0.0.0:7001", zone="r1") as one,
        node("n2", server.url, address="10.0.0.2", zone="r2") as two,
        node("n3", server.url, address="[fd00::3]:7003"),
    ):
        await until(lambda: names(one) == names(two) == ALL)
        seen = [(each.url, each.zone, each.load, each.version) for each in one.nodes()]
        heard = [each.heard for each in one.nodes()]

    assert [
        ("https://n1:7001", "r1", 3, "9.9"),
        ("https://10.0.0.2:5051", "r2", 3, "9.9"),
        ("https://[fd00::3]:7003", "", 3, "9.9"),
    ] == seen
    assert all(ago is not None and 0 <= ago < 20 for ago in heard)


async def test_two_clusters_on_one_server(server: NatsServer) -> None:
    """Nodes of another cluster are none of ours, whatever they are called."""
    async with (
        node("n1", server.url) as one,
        node("n1", server.url, cluster="other") as other,
        node("n2", server.url, cluster="other"),
    ):
        await until(lambda: names(other) == ["n1", "n2"])

        assert ["n1"] == names(one)


async def test_a_newcomer_is_known_long_before_the_next_beat(server: NatsServer) -> None:
    """By its hello and the answers to it, not by beats: those would take an hour here."""
    rare = Timing(beat=3000.0, answer=0.05)
    async with node("n1", server.url, timing=rare) as one:
        await until(lambda: one.connected)
        async with node("n2", server.url, timing=rare) as two:
            await until(lambda: names(one) == names(two) == ["n1", "n2"])


async def test_an_orderly_leave_is_known_at_once(server: NatsServer) -> None:
    """A node that stops says so: nobody waits for beats that are missed."""
    rare, watcher = Timing(beat=3000.0, answer=0.05), Watcher()
    async with node("n1", server.url, timing=rare) as one:
        one.watch(watcher.joined, watcher.left)
        async with node("n2", server.url, timing=rare):
            await until(lambda: names(one) == ["n1", "n2"])
        await until(lambda: names(one) == ["n1"])

    assert [("joined", "n2"), ("left", "n2")] == watcher.told


async def test_a_node_that_is_killed(server: NatsServer) -> None:
    """A process that ends without a word is gone after the beats it missed; a new one is back."""
    async with node("n1", server.url) as one:
        with process("n2", server.url) as second:
            await until(lambda: names(one) == ["n1", "n2"])
            second.kill()
            await until(lambda: names(one) == ["n1"])
        with process("n2", server.url):
            await until(lambda: names(one) == ["n1", "n2"])


async def test_a_node_that_is_held_up(server: NatsServer) -> None:
    """A process that stands still is gone; when it goes on it is back, and it has lost nobody."""
    async with node("n1", server.url) as one:
        with process("n2", server.url) as second:
            await until(lambda: names(one) == ["n1", "n2"])
            second.send_signal(signal.SIGSTOP)
            await until(lambda: names(one) == ["n1"])
            second.send_signal(signal.SIGCONT)
            await until(lambda: names(one) == ["n1", "n2"])


async def test_nats_goes_and_comes(server: NatsServer, three: list[NatsCluster]) -> None:
    """While the server is away the members are those that were known; nobody is told of a leave,
    and when it is back they all hear one another again."""
    watcher = Watcher()
    three[0].watch(watcher.joined, watcher.left)
    await asyncio.to_thread(server.kill)
    await until(lambda: not any(each.connected for each in three))
    away = [names(each) for each in three]
    await asyncio.to_thread(server.start)
    await until(lambda: all(each.connected for each in three))
    await hear_more(three)

    assert [ALL] * 3 == away == [names(each) for each in three]
    assert [("joined", "n2"), ("joined", "n3")] == watcher.told


async def test_who_left_while_nats_was_away(server: NatsServer) -> None:
    """When the server is back, those who are not heard any more are let go."""
    async with node("n1", server.url) as one:
        with process("n2", server.url) as second, process("n3", server.url):
            await until(lambda: names(one) == ALL)
            await asyncio.to_thread(server.kill)
            second.kill()
            await until(lambda: not one.connected)
            known = names(one)
            await asyncio.to_thread(server.start)
            await until(lambda: names(one) == ["n1", "n3"])

    assert ALL == known


async def test_nats_stays_away(server: NatsServer, three: list[NatsCluster]) -> None:
    """After a while a node that hears nobody is alone: what it knew is too old to be true."""
    await asyncio.to_thread(server.kill)
    await until(lambda: [names(each) for each in three] == [["n1"], ["n2"], ["n3"]])

    assert not any(each.connected for each in three)


async def test_without_nats_from_the_first(tmp_path: Path) -> None:
    """A node whose NATS is not there works alone, and finds the others when it comes."""
    server = NatsServer(tmp_path / "nats", *free_ports(1))
    async with node("n1", server.url) as one, node("n2", server.url) as two:
        alone = names(one), names(two)
        await asyncio.to_thread(server.start)
        try:
            await all_know([one, two], ["n1", "n2"])
        finally:
            await asyncio.to_thread(server.end)

    assert (["n1"], ["n2"]) == alone


async def test_one_of_three_servers_is_killed(tmp_path: Path) -> None:
    """Nodes on different servers are one cluster; when a server dies, its nodes move on, and no
    node loses another for good."""
    with nats_cluster(tmp_path / "nats") as servers:
        async with AsyncExitStack() as stack:
            found = [
                await stack.enter_async_context(node(f"n{number}", each.url))
                for number, each in enumerate(servers, 1)
            ]
            await all_know(found, ALL)
            await asyncio.to_thread(servers[0].kill)
            await until(lambda: found[0].link.server not in ("", servers[0].url[7:]))
            await hear_more(found)
            await all_know(found, ALL)


async def test_fifty_more(server: NatsServer) -> None:
    """Fifty nodes that one connection speaks for are seen, fall silent, and are gone."""

    def say(kind: Kind, number: int) -> Beat:
        return Beat(f"m{number}", f"https://m{number}:5051", f"r{number}", QUICK.beat, kind=kind)

    async with node("n1", server.url) as one, linked(server.url, name="crowd") as crowd:
        await until(lambda: one.presence.taken)
        for number in range(50):
            crowd.publish(f"{one.prefix}.beats", say(Kind.HELLO, number).encode())
        await until(lambda: len(names(one)) == 51)
        in_order = names(one)
        for number in range(25):
            crowd.publish(f"{one.prefix}.beats", say(Kind.BYE, number).encode())
        await until(lambda: len(names(one)) == 26)
        await until(lambda: names(one) == ["n1"])

    assert [*(f"m{number}" for number in range(50)), "n1"] == in_order


async def test_nonsense_on_the_subject(server: NatsServer) -> None:
    """What is no beat harms nobody."""
    async with node("n1", server.url) as one, linked(server.url, name="crowd") as crowd:
        await until(lambda: one.presence.taken)
        for raw in (b"", b"{}", b"\x00" * 5000, b'{"name": 5}'):
            crowd.publish(f"{one.prefix}.beats", raw)
        await until(lambda: one.presence.ignored == 4)
        async with node("n2", server.url):
            await until(lambda: names(one) == ["n1", "n2"])
