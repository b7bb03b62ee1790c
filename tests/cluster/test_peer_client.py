"""What one node asks another, over real TLS on loopback: answers, refusals, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from cache.content import Digest
from registryd.cluster.errors import PeerCut, PeerGone, PeerStalled, PeerWrong
from registryd.cluster.peer_client import MANIFEST_LIMIT, ChunkAnswer, ChunkAsk, PeerClient
from registryd.cluster.peer_tls import PeerTls
from registryd.cluster_ports import ClusterNode
from registryd.oci.reference import Reference
from registryd.secrets import Secret
from tests.fakes.http import FakeServer, Reply, reply
from tests.fakes.members import HOST, Site, stranger_listener

CONTENT = bytes(range(256)) * 1024
DIGEST = Digest.of(CONTENT)
ASK = ChunkAsk("up.test/lib/app", DIGEST, 1000, 5000, len(CONTENT))
BLOB = f"/v2/up.test/lib/app/blobs/{DIGEST}"
#: Seconds; nothing here waits so long unless it has to.
PATIENT = 20.0


class Peer(FakeServer):
    """A node that has CONTENT, as it should answer."""

    def __init__(self) -> None:
        super().__init__()
        self.connections: set[object] = set()

    async def respond(self, request: web.BaseRequest) -> Reply:
        self.connections.add(request.transport)
        if request.path != BLOB:
            return reply(404)
        asked = request.headers["Range"].removeprefix("bytes=").split("-")
        start, stop = int(asked[0]), int(asked[1]) + 1
        return reply(
            206, CONTENT[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{len(CONTENT)}"
        )

    @property
    def node(self) -> ClusterNode:
        """This peer, as the cluster calls it: by name, dialled by address."""
        return ClusterNode("n2", self.url)


@dataclass(frozen=True)
class World:
    """What nodes and strangers show, read from their files."""

    ours: PeerTls
    renewed: PeerTls
    peer: PeerTls
    web: ssl.SSLContext
    other: ssl.SSLContext
    refusing: ssl.SSLContext


@pytest.fixture
def world(tmp_path: Path) -> World:
    site, other = Site.make(tmp_path / "site"), Site.make(tmp_path / "other")
    refusing = stranger_listener(site.node("n2.refusing", "n2"))
    refusing.verify_mode = ssl.CERT_REQUIRED
    refusing.load_verify_locations(other.node("n3").ca_file)
    return World(
        PeerTls.load(site.node("n1")),
        PeerTls.load(site.node("n1.new", "n1")),
        PeerTls.load(site.node("n2")),
        stranger_listener(site.web_server("n2.web")),
        stranger_listener(other.node("n2")),
        refusing,
    )


@pytest.fixture
async def peer(world: World) -> AsyncIterator[Peer]:
    """The node n2."""
    async with Peer().serve(ssl_context=world.peer.listener) as server:
        yield server


@pytest.fixture
async def client(world: World) -> AsyncIterator[PeerClient]:
    async with PeerClient.open(world.ours, "n1:5051", answer=PATIENT, stall=PATIENT) as opened:
        yield opened


async def body(answer: ChunkAnswer) -> bytes:
    return b"".join([piece async for piece in answer])


async def fetch(client: PeerClient, node: ClusterNode, ask: ChunkAsk = ASK) -> bytes:
    async with client.chunk(node, ask) as answer:
        return await body(answer)


async def test_a_stretch(client: PeerClient, peer: Peer) -> None:
    """The bytes that were asked for come, and the request says what the protocol wants."""
    ask = ChunkAsk(
        "up.test/lib/app", DIGEST, 1000, 5000, len(CONTENT),
        hops=2, free=7, owed=True, relay=True, token=Secret("t0ken"), barred=1.5,
    )  # fmt: skip
    got = await fetch(client, peer.node, ask)
    headers = peer.requests[0].headers

    assert CONTENT[1000:5000] == got
    assert BLOB == peer.requests[0].path
    assert "bytes=1000-4999" == headers["Range"]
    assert "identity" == headers["Accept-Encoding"]
    assert {
        "Node": "n1:5051", "Hops": "2", "Free": "7", "Size": str(len(CONTENT)), "Owed": "1",
        "Relay": "1", "Upstream": "Bearer t0ken", "Barred": "1.500",
    } == {
        name.removeprefix("Registryd-"): value
        for name, value in headers.items() if name.startswith("Registryd-")
    }  # fmt: skip


async def test_what_is_not_so_is_not_said(client: PeerClient, peer: Peer) -> None:
    """Marks that do not hold, and tokens that there are none of, are left out."""
    await fetch(client, peer.node)
    headers = peer.requests[0].headers

    assert not {"Owed", "Relay", "Upstream", "Barred"} & {
        name.removeprefix("Registryd-") for name in headers
    }


async def test_what_an_answer_says(client: PeerClient, peer: Peer) -> None:
    """How much is here, whether it is proven, the chunk's hash."""
    peer.header("", "Registryd-Here", "4096")
    peer.header("", "Registryd-Checked", "1")
    peer.header("", "Registryd-Chunk", str(DIGEST))
    async with client.chunk(peer.node, ASK) as answer:
        got = answer.status, answer.here, answer.checked, answer.chunk_digest
        place = answer.start, answer.total, answer.to

    assert (206, 4096, True, DIGEST) == got
    assert (1000, len(CONTENT), None) == place


async def test_refusals_are_answers(client: PeerClient, peer: Peer) -> None:
    """307, 503 and the like are told, nothing is followed, and the connection is used again."""
    said = []
    for status, headers in (
        (307, {"Location": "https://n3:5051/x", "Registryd-To": "n3:5051"}),
        (503, {"Retry-After": "1"}),
        (503, {"Registryd-Barred": "12.5"}),
        (404, {}),
    ):
        peer.answer("", status, "no", **headers)
        async with client.chunk(peer.node, ASK) as answer:
            said.append((answer.status, answer.to, answer.retry_after, answer.barred))
            assert b"" == await body(answer)
    await fetch(client, peer.node)

    assert [
        (307, "n3:5051", None, None),
        (503, None, 1.0, None),
        (503, None, None, 12.5),
        (404, None, None, None),
    ] == said
    assert 1 == len(peer.connections)


@pytest.mark.parametrize(
    "said", ["bytes 1000-4998/262144", "bytes 999-4999/262144", "bytes 1000-4999/5000", "x", None]
)
async def test_other_bytes(client: PeerClient, peer: Peer, said: str | None) -> None:
    """An answer about other bytes, or another blob, is none."""
    peer.header("", "Content-Range", said)

    with pytest.raises(PeerWrong, match="peer n2: "):
        await fetch(client, peer.node)


async def test_the_whole_blob_is_no_answer(client: PeerClient, peer: Peer) -> None:
    """A peer that ignores the range is wrong."""
    peer.answer("", 200, CONTENT)

    with pytest.raises(PeerWrong, match="peer n2: it answered 200"):
        await fetch(client, peer.node)


@pytest.mark.parametrize(
    ("name", "value"),
    [("Registryd-Here", "-1"), ("Registryd-Here", "many"), ("Registryd-Chunk", "sha256:no")],
)
async def test_nonsense(client: PeerClient, peer: Peer, name: str, value: str) -> None:
    """A header that cannot be read names the peer."""
    peer.header("", name, value)

    with pytest.raises(PeerWrong, match="peer n2: "):
        await fetch(client, peer.node)


async def test_cut(client: PeerClient, peer: Peer) -> None:
    """What came before a cut was given; then it is said how much is missing."""
    peer.cut("", 1500)
    got = b""
    with pytest.raises(PeerCut, match=r"peer n2: .* to come"):
        async with client.chunk(peer.node, ASK) as answer:
            async for piece in answer:
                got += piece

    assert CONTENT[1000:2500] == got


async def test_cut_without_a_word(client: PeerClient, peer: Peer) -> None:
    """An answer in chunked coding that ends well and is too short is cut as well."""
    peer.change("", lambda answer: setattr(answer, "body", CONTENT[1000:3000]))
    peer.announce("", -1)

    with pytest.raises(PeerCut, match="peer n2: it ended with 2000 bytes to come"):
        await fetch(client, peer.node)


async def test_more_than_announced(client: PeerClient, peer: Peer) -> None:
    """Bytes beyond the stretch are not given."""
    peer.change("", lambda answer: setattr(answer, "body", CONTENT[:5000]))
    peer.announce("", -1)

    with pytest.raises(PeerWrong, match="more than it announced"):
        await fetch(client, peer.node)


async def test_stalled(world: World, peer: Peer) -> None:
    """Silence in a body, and before one, has an end."""
    gate = asyncio.Event()
    peer.stall("", gate, at=1500)
    async with PeerClient.open(world.ours, "n1:5051", answer=PATIENT, stall=0.05) as client:
        async with asyncio.timeout(PATIENT / 2):
            with pytest.raises(PeerStalled, match=r"peer n2: it stalled, no byte for 0.05 s"):
                await fetch(client, peer.node)
    gate.set()


async def test_no_answer(world: World) -> None:
    """A peer that takes the connection and says nothing, not even in TLS, is left."""
    with socket.create_server((HOST, 0)) as server:
        node = ClusterNode("n2", f"https://{HOST}:{server.getsockname()[1]}")
        async with PeerClient.open(world.ours, "n1:5051", connect=0.1) as client:
            with pytest.raises(PeerGone, match="peer n2: no connection in time"):
                await fetch(client, node)


async def test_nobody_there(client: PeerClient) -> None:
    """A port that nobody listens on is one line."""
    with socket.create_server((HOST, 0)) as server:
        node = ClusterNode("n2", f"https://{HOST}:{server.getsockname()[1]}")

    with pytest.raises(PeerGone, match="peer n2: cannot be reached: connection refused"):
        await fetch(client, node)


async def test_a_name_that_does_not_resolve(client: PeerClient) -> None:
    """The line says that it is the name."""
    with pytest.raises(PeerGone, match=r"peer n2: (its name does not resolve|no connection)"):
        await fetch(client, ClusterNode("n2", "https://n2.invalid:5051"))


async def test_another_node(client: PeerClient, peer: Peer) -> None:
    """A member that is not the one meant gets no request."""
    with pytest.raises(PeerGone, match="peer n3: its certificate is for another host"):
        await fetch(client, ClusterNode("n3", peer.url))

    assert [] == peer.requests


async def test_a_certificate_that_is_no_nodes(client: PeerClient, world: World) -> None:
    """A web server's certificate of the same authority gets no request, and so no token."""
    async with Peer().serve(ssl_context=world.web) as server:
        with pytest.raises(PeerGone, match=r"peer n2\.web: its certificate is no node's"):
            await fetch(client, ClusterNode("n2.web", server.url))

    assert [] == server.requests


async def test_another_authority(client: PeerClient, world: World) -> None:
    """A cluster of the same name gets no request."""
    async with Peer().serve(ssl_context=world.other) as server:
        with pytest.raises(PeerGone, match="its certificate is not of the cluster's authority"):
            await fetch(client, server.node)

    assert [] == server.requests


async def test_refused_by_it(client: PeerClient, world: World) -> None:
    """Where the peer refuses our certificate, the line says so, or sends to the peer's log."""
    async with Peer().serve(ssl_context=world.refusing) as server:
        with pytest.raises(PeerGone, match=r"peer n2: .*refuses"):
            await fetch(client, server.node)

    assert [] == server.requests


async def test_renewed(client: PeerClient, peer: Peer, world: World) -> None:
    """After a renewal new connections show the new certificate; the old one is not used again."""
    await fetch(client, peer.node)
    client.renew(world.renewed)
    await fetch(client, peer.node)

    assert 2 == len(peer.connections)


async def test_no_proxy(client: PeerClient, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are for registries."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")

    assert CONTENT[1000:5000] == await fetch(client, peer.node)


async def test_the_hash_of_a_chunk(client: PeerClient, peer: Peer) -> None:
    """It is given, or it is not there, or the answer is nonsense."""
    path = f"/peer/v1/chunks/{DIGEST}/3"
    peer.answer(path, 200, json.dumps({"digest": str(DIGEST)}))
    got = [await client.chunk_digest(peer.node, "up.test/lib/app", DIGEST, 3) for _ in range(2)]
    peer.answer(path, 200, "[]")
    with pytest.raises(PeerWrong, match="no chunk's hash"):
        await client.chunk_digest(peer.node, "up.test/lib/app", DIGEST, 3)

    assert [DIGEST, None] == got
    assert f"{path}?repository=up.test/lib/app" == peer.requests[0].path


async def test_a_manifest(client: PeerClient, peer: Peer) -> None:
    """It comes with its media type and is proven; 404 is nothing; a wrong one names the peer."""
    exact = Reference("up.test", "lib/app", digest=Digest.of(b"{}"))
    path = f"/v2/up.test/lib/app/manifests/{exact.digest}"
    peer.answer(path, 200, "{}", Content_Type="application/vnd.oci.image.manifest.v1+json")
    first = await client.manifest(peer.node, exact, Secret("t"))
    second = await client.manifest(peer.node, exact, None)

    assert (b"{}", "application/vnd.oci.image.manifest.v1+json") == first
    assert second is None
    assert ["Bearer t", None] == [seen.headers.get("Registryd-Upstream") for seen in peer.requests]
    for wrong, said in ((b"{ }", "is not sha256:"), (bytes(MANIFEST_LIMIT + 1), "more than")):
        peer.answer(path, 200, wrong)
        with pytest.raises(PeerWrong, match=said):
            await client.manifest(peer.node, exact, None)


@asynccontextmanager
async def no_http(world: World) -> AsyncIterator[ClusterNode]:
    """A member that speaks TLS, and then something else."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(speak, HOST, 0, ssl=world.peer.listener) as server:
        port = server.sockets[0].getsockname()[1]
        yield ClusterNode("n2", f"https://{HOST}:{port}")


async def test_what_is_no_http(client: PeerClient, world: World) -> None:
    """It is said that it is not."""
    async with no_http(world) as node:
        with pytest.raises(PeerWrong, match="peer n2: it sent what is not HTTP"):
            await fetch(client, node)
