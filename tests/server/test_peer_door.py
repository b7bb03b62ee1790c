"""The peers' door: handshakes at the entrance, and who a request comes from."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from registryd.cluster.alone import Alone
from registryd.cluster.peer_tls import PeerTls
from registryd.cluster_ports import ClusterNode
from registryd.operations import Operations
from registryd.server.budget import Budgets
from registryd.server.context import Context
from registryd.server.entrance import REMEMBERED, Entrance, Refusals
from registryd.server.listeners import Door, serving
from registryd.server.metrics import Metrics
from registryd.server.peer_door import make_peers_app, member_of
from registryd.server.tokens import Tokens
from registryd.transfer.groups import task_group
from tests.fakes.members import HOST, NOW, PATIENCE, Site, stranger_client
from tests.fakes.node import running_node
from tests.fakes.waiting import until


@dataclass(frozen=True)
class World:
    """Two nodes, and what strangers show."""

    n1: PeerTls
    n2: PeerTls
    nobody: ssl.SSLContext
    web: ssl.SSLContext


@pytest.fixture
def world(tmp_path: Path) -> World:
    site = Site.make(tmp_path / "site")
    files, shown = site.node("n1"), site.web_server("web")
    return World(
        PeerTls.load(files),
        PeerTls.load(site.node("n2")),
        stranger_client(files.ca_file),
        stranger_client(files.ca_file, shown),
    )


class Known(Alone):
    """A cluster that knows these nodes; news of others may come, or not."""

    def __init__(self, *names: str, kind: str = "static") -> None:
        self.kind = kind  # type: ignore[misc]
        self._names = names

    def find(self, name: str) -> ClusterNode | None:
        return ClusterNode(name, f"https://{name}:1") if name in self._names else None


async def _who(request: web.Request) -> web.StreamResponse:
    return web.Response(text=member_of(request).name)


@asynccontextmanager
async def door(
    folder: Path, world: World, cluster: Known, now: Callable[[], datetime] = lambda: NOW
) -> AsyncIterator[str]:
    """The URL of n1's door, which has one route: it says who asks."""
    folder = folder / "node"
    folder.mkdir()
    with socket.create_server((HOST, 0)) as sock, ThreadPoolExecutor(1) as threads:
        sock.setblocking(False)
        async with running_node(folder) as running:
            node, tokens = running.node, Tokens(b"t" * 32, b"l" * 32)
            context = Context(
                node, Operations(node), Metrics(node), threads, "docker.io", tokens, Budgets()
            )
            app = make_peers_app(context, world.n1, cluster, lambda app: _add(app.router), now=now)
            place = Door(sock, "peers", peers=True, tls=world.n1.listener)
            async with serving([(place, app)], drain=0.0):
                yield f"https://{HOST}:{sock.getsockname()[1]}"


def _add(router: web.UrlDispatcher) -> None:
    router.add_get("/who", _who)


async def ask(
    session: aiohttp.ClientSession, url: str, tls: ssl.SSLContext, name: str | None
) -> tuple[int, str]:
    """Status and body of a request at the door, by a node of this name."""
    headers = {} if name is None else {"Registryd-Node": name}
    async with session.get(f"{url}/who", ssl=tls, server_hostname="n1", headers=headers) as answer:
        return answer.status, await answer.text()


async def test_members_are_let_in(world: World, tmp_path: Path) -> None:
    """Who asks is the node that the header names and the certificate is of."""
    async with (
        door(tmp_path, world, Known("n2", "n2:5051")) as url,
        aiohttp.ClientSession() as session,
    ):
        found = [await ask(session, url, world.n2.client, name) for name in ("n2", "n2:5051")]

    assert [(200, "n2"), (200, "n2:5051")] == found


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        (None, 403, "peer n2: its Registryd-Node is no node's name"),
        ("n2:x", 403, "no node's name"),
        ("n1", 403, "peer n2: it is not n1"),
        ("n2:9", 403, "peer n2:9: this node does not know it (is cluster.peers the same text"),
    ],
)
async def test_names(
    world: World, tmp_path: Path, name: str | None, status: int, said: str
) -> None:
    """A name that is missing, another's, or on no list here is refused in words."""
    async with (
        door(tmp_path, world, Known("n1", "n2")) as url,
        aiohttp.ClientSession() as session,
    ):
        found = await ask(session, url, world.n2.client, name)

    assert (status, True) == (found[0], said in found[1]), found


async def test_a_member_of_which_news_may_come(world: World, tmp_path: Path) -> None:
    """Where members come and go, one that has not been heard of yet may ask again."""
    async with (
        door(tmp_path, world, Known(kind="nats")) as url,
        aiohttp.ClientSession() as session,
    ):
        status, said = await ask(session, url, world.n2.client, "n2")

    assert (503, True) == (status, "does not know it yet" in said)


async def test_a_certificate_that_is_no_nodes(world: World, tmp_path: Path) -> None:
    """What the authority signed for a web server opens no route, not even one that is not there."""
    async with (
        door(tmp_path, world, Known("web")) as url,
        aiohttp.ClientSession() as session,
    ):
        found = await ask(session, url, world.web, "web")
        async with session.get(f"{url}/nothing", ssl=world.web, server_hostname="n1") as answer:
            nothing = answer.status

    assert (403, 403, True) == (found[0], nothing, "no node's" in found[1])


async def test_a_certificate_ends_with_its_time(world: World, tmp_path: Path) -> None:
    """A connection that lives on when its certificate has ended is refused from then on."""
    times = [NOW, NOW + timedelta(days=400)]
    async with (
        door(tmp_path, world, Known("n2"), lambda: times.pop(0)) as url,
        aiohttp.ClientSession() as session,
    ):
        found = [await ask(session, url, world.n2.client, "n2") for _ in range(2)]

    assert (200, 403) == (found[0][0], found[1][0])
    assert "peer n2: its certificate has ended" in found[1][1]


class Greeter(asyncio.Protocol):
    """Says a word to everyone who gets in."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"in")
        transport.close()


@asynccontextmanager
async def entrance(world: World, **settings: float) -> AsyncIterator[tuple[int, Entrance]]:
    """The port of an entrance of n1."""
    with socket.create_server((HOST, 0)) as sock:
        sock.setblocking(False)
        async with task_group() as group:
            opened = Entrance(sock, Greeter, world.n1.listener, **settings)
            opened.open(group)
            try:
                yield sock.getsockname()[1], opened
            finally:
                opened.close()


async def greet(port: int, tls: ssl.SSLContext | None) -> bytes:
    """What is heard from the entrance."""
    host = None if tls is None else "n1"
    reader, writer = await asyncio.open_connection(HOST, port, ssl=tls, server_hostname=host)
    if tls is None:
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_the_entrance(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Members get in; of those who do not, one line says why for each address."""
    async with entrance(world) as (port, _):
        heard = [
            await greet(port, tls)
            for tls in (world.n2.client, world.nobody, world.nobody, None, world.n2.client)
        ]
    lines = [record.getMessage() for record in caplog.records if "refused" in record.message]

    assert [b"in", b"", b"", b"", b"in"] == heard
    assert [f"refused: peer {HOST}: it has shown no certificate"] == lines


def test_lines_come_again() -> None:
    """After a minute an address is told of again, and how many were not; others have their own."""
    refusals = Refusals()
    lines = [
        refusals.line(host, "no", now)
        for host, now in (("a", 0.0), ("a", 1.0), ("b", 2.0), ("a", 59.9), ("a", 60.0), ("a", 61))
    ]

    assert ["no", None, "no (and 1 more since the last line)"] == lines[:3]
    assert [None, "no (and 1 more since the last line)", None] == lines[3:]


def test_addresses_are_not_kept_for_ever() -> None:
    """However many addresses are refused, only so many are remembered."""
    refusals = Refusals()
    for number in range(2 * REMEMBERED):
        refusals.line(f"10.0.{number >> 8}.{number & 255}", "no", 0.0)

    assert "no" == refusals.line("10.0.0.0", "no", 0.0)


async def test_who_says_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Who connects and says nothing is in nobody's way, and is let go after a while; who leaves
    before saying anything is no news."""
    caplog.set_level(logging.INFO)
    async with entrance(world, handshake=0.3) as (port, _):
        _, gone = await asyncio.open_connection(HOST, port)
        gone.close()
        reader, writer = await asyncio.open_connection(HOST, port)
        heard = await greet(port, world.n2.client)
        ended = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()

    assert (b"in", b"") == (heard, ended)
    assert [] == [record.message for record in caplog.records]


async def test_the_end_of_an_entrance(world: World) -> None:
    """With the entrance, handshakes that are under way end too."""
    async with entrance(world) as (port, opened):
        reader, writer = await asyncio.open_connection(HOST, port)
        await until(lambda: opened.arriving)
    ended = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()

    assert b"" == ended


async def test_renewed(world: World) -> None:
    """What is shown can be replaced while it accepts."""
    async with entrance(world) as (port, opened):
        opened.tls = world.n2.listener
        with pytest.raises(ssl.SSLCertVerificationError):
            await greet(port, world.n2.client)
