"""The peers' door: what a node answers other nodes, and what it does for nobody else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from cache.content import Descriptor, Digest
from cache.errors import IngestAborted
from registryd.cluster.geometry import Geometry
from registryd.cluster.serving import Request
from registryd.server.peer_asks import Wanted
from registryd.server.peer_sending import Stretch
from tests.cluster.swarming import CONTENT as SWARMED
from tests.cluster.swarming import REPOSITORY, world
from tests.fakes.node import plain
from tests.fakes.party import Guest, party
from tests.fakes.registry import FakeRegistry, make_image
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import until
from tests.server.wire import KIB, MIB, noise

SIZE = 5 * MIB + 100
CONTENT = noise(SIZE)
DIGEST = Digest.of(CONTENT)
GEOMETRY = Geometry(SIZE)
#: What asks for the first chunk.
WHOLE = {"Registryd-Size": str(SIZE), "Range": f"bytes=0-{2 * MIB - 1}"}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        server.add_blob("team/app", CONTENT)
        yield server


@asynccontextmanager
async def two(
    upstream: FakeRegistry, folder: Path
) -> AsyncIterator[tuple[Guest, aiohttp.ClientSession]]:
    """A node, and what another one says to it: its daemon has ended, so it says nothing else."""
    async with party(folder, 2, registries=plain(upstream)) as guests:
        await guests[1].leave()
        async with guests[0].peer(guests[1]) as client:
            yield guests[0], client


def path(upstream: FakeRegistry, kind: str = "blobs", target: object = DIGEST) -> str:
    return f"/v2/{upstream.name}/team/app/{kind}/{target}"


def asks(chunk: int = 0, **more: str) -> dict[str, str]:
    """The headers of a request for a whole chunk."""
    start, stop = GEOMETRY.span(chunk)
    said = {"Range": f"bytes={start}-{stop - 1}", "Registryd-Size": str(SIZE)}
    return said | {f"Registryd-{name}": value for name, value in more.items()}


async def held(guest: Guest, upstream: FakeRegistry) -> None:
    """Let the node have the whole blob."""
    async with guest.owner() as client, client.get(path(upstream)) as answer:
        assert CONTENT == await answer.read()


async def test_a_held_chunk_is_given_with_its_proof(upstream: FakeRegistry, tmp_path: Path) -> None:
    """206 with what the sender has of it, that it is proven, and its hash once that is known."""
    async with two(upstream, tmp_path) as (node, client):
        await held(node, upstream)
        about = f"/peer/v1/chunks/{DIGEST}/1?repository={upstream.name}/team/app"
        async with client.get(about) as answer:
            told = (await answer.json())["digest"]
        async with client.get(path(upstream), headers=asks(1)) as answer:
            body = await answer.read()

            assert 206 == answer.status
            assert CONTENT[2 * MIB : 4 * MIB] == body
            assert str(Digest.of(body)) == told == answer.headers["Registryd-Chunk"]
            assert str(2 * MIB) == answer.headers["Registryd-Here"]
            assert "1" == answer.headers["Registryd-Checked"]
            assert f"bytes {2 * MIB}-{4 * MIB - 1}/{SIZE}" == answer.headers["Content-Range"]


async def test_a_chunk_goes_on_where_the_asker_has_ended(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """A stretch may begin within its chunk; it ends with it."""
    async with two(upstream, tmp_path) as (node, client):
        await held(node, upstream)
        asked = {"Range": f"bytes=1000-{2 * MIB - 1}", "Registryd-Size": str(SIZE)}
        async with client.get(path(upstream), headers=asked) as answer:
            assert CONTENT[1000 : 2 * MIB] == await answer.read()
            assert str(2 * MIB) == answer.headers["Registryd-Here"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Registryd-Size": str(SIZE)}, 416),
        ({"Registryd-Size": "x", "Range": "bytes=0-9"}, 400),
        (WHOLE | {"Range": "bytes=0-9"}, 416),
        (WHOLE | {"Range": f"bytes=0-{4 * MIB - 1}"}, 416),
        (WHOLE | {"Range": "bytes=0-1,5-9"}, 416),
        (WHOLE | {"Registryd-Size": str(SIZE + 1)}, 416),
        (WHOLE | {"Registryd-Hops": "-1"}, 400),
    ],
)  # fmt: skip
async def test_what_no_node_would_ask_is_refused(
    upstream: FakeRegistry, tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    """A stretch over two chunks, one that ends early, no size, another size: a clear no."""
    async with two(upstream, tmp_path) as (node, client):
        await held(node, upstream)
        async with client.get(path(upstream), headers=headers) as answer:
            assert status == answer.status, await answer.text()


async def test_what_is_not_ours_to_get_is_asked_of_its_owner(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """307 with the owner's address, and nothing is asked of the registry."""
    async with party(tmp_path, 3, registries=plain(upstream)) as guests:
        names = [guest.name for guest in guests]
        owner = guests[names.index(guests[0].exchange.owner(DIGEST, 0))]
        node, asker = (guest for guest in guests if guest is not owner)
        async with (
            node.peer(asker) as client,
            client.get(path(upstream), headers=asks(), allow_redirects=False) as answer,
        ):
            assert 307 == answer.status
            assert owner.name == answer.headers["Registryd-To"]
            where = f"https://{owner.name}{path(upstream)}"
            assert where == answer.headers["Location"].replace("%3A", ":")
            assert [] == node.node.flights.under_way()
        assert [] == upstream.lines("blobs")


@pytest.mark.parametrize("said", [{"Owed": "1"}, {}])
async def test_what_is_ours_to_get_is_got(
    upstream: FakeRegistry, tmp_path: Path, said: dict[str, str]
) -> None:
    """Of the registry, once, that chunk alone: because we own it, or because we are told so."""
    async with party(tmp_path, 2, registries=plain(upstream)) as guests:
        owner = guests[0].exchange.owner(DIGEST, chunk := 0)
        guests.sort(key=lambda guest: (guest.name == owner) == bool(said))
        node, asker = guests
        await asker.leave()
        async with (
            node.peer(asker) as client,
            client.get(path(upstream), headers=asks(chunk, **said)) as answer,
        ):
            assert 206 == answer.status
            start, stop = GEOMETRY.span(chunk)
            assert CONTENT[start:stop] == await answer.read()
        assert stop - start == upstream.sent[str(DIGEST)]


async def test_the_askers_token_is_shown_to_the_registry(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """A registry sees the asker's short-lived token, as it was lent, and no password of ours."""
    wanted = 'Bearer realm="http://127.0.0.1:1/token",service="here"'
    upstream.answer("GET .*/blobs/", 401, times=1, WWW_Authenticate=wanted)
    async with two(upstream, tmp_path) as (_, client):
        said = asks(0, Owed="1", Upstream="Bearer lent-by-the-asker")
        async with client.get(path(upstream), headers=said) as answer:
            assert 206 == answer.status, await answer.text()
        shown = [seen.headers.get("Authorization") for seen in upstream.asked("blobs")]
        assert [None, "Bearer lent-by-the-asker"] == shown


async def test_a_repository_that_is_not_known_to_have_a_blob_is_asked(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """A blob that is here is given through another repository only after its registry says so."""
    upstream.add_blob("team/other", b"something else")
    async with two(upstream, tmp_path) as (node, client):
        await held(node, upstream)
        where = path(upstream).replace("team/app", "team/other")
        async with client.get(where, headers=asks()) as answer:
            assert 404 == answer.status
            assert float(answer.headers["Registryd-Barred"]) > 0
        about = f"/peer/v1/chunks/{DIGEST}/0?repository={upstream.name}/team/other"
        async with client.get(about) as answer:
            assert 404 == answer.status
        upstream.add_blob("team/other", CONTENT)
        async with client.get(where, headers=asks()) as answer:
            assert 206 == answer.status


async def test_a_registry_that_refuses_us_bars_us(upstream: FakeRegistry, tmp_path: Path) -> None:
    """503 with the time for which others need not ask us for this blob."""
    upstream.answer("GET .*/blobs/", 429, times=None)
    async with (
        two(upstream, tmp_path) as (_, client),
        client.get(path(upstream), headers=asks(0, Owed="1")) as answer,
    ):
        assert 503 == answer.status
        assert float(answer.headers["Registryd-Barred"]) > 0
        assert "Retry-After" in answer.headers


async def test_the_nodes_own_registry_is_given_and_never_fetched(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """What is in localhost/ is held, or unknown."""
    async with two(upstream, tmp_path) as (node, client):
        layer = Descriptor("application/octet-stream", DIGEST, SIZE)
        await node.node.store.put(CONTENT, layer, repository="localhost/mine/app", links=None)
        where = f"/v2/localhost/mine/app/blobs/{DIGEST}"
        async with client.get(where, headers=asks(0)) as answer:
            assert 206 == answer.status
        other = Digest.of(b"not here")
        where = f"/v2/localhost/mine/app/blobs/{other}"
        async with client.get(where, headers=asks(0, Owed="1")) as answer:
            assert 404 == answer.status


async def test_a_manifest_is_given_by_its_digest_alone(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """Fetched once at need; a tag is for its registry to say."""
    raw = make_image(CONTENT)
    digest = upstream.add_manifest("team/app", "v1", raw)
    async with two(upstream, tmp_path) as (_, client):
        for _ in range(2):
            async with client.get(path(upstream, "manifests", digest)) as answer:
                assert raw == await answer.read()
                assert digest == answer.headers["Docker-Content-Digest"]
        async with client.get(path(upstream, "manifests", "v1")) as answer:
            assert 404 == answer.status
        assert 1 == len(upstream.lines("GET .*/manifests/"))


@pytest.mark.parametrize(
    ("method", "where"),
    [
        ("GET", "/v2/"),
        ("GET", "/v2/team/app/tags/list"),
        ("GET", "/api/v1/status"),
        ("GET", "/metrics"),
        ("PUT", "/v2/localhost/app/manifests/v1"),
        ("POST", "/v2/localhost/app/blobs/uploads/"),
        ("DELETE", f"/v2/localhost/app/blobs/{DIGEST}"),
    ],
)
async def test_nothing_else_is_there(
    upstream: FakeRegistry, tmp_path: Path, method: str, where: str
) -> None:
    """No tag, no push, no control, no metrics: other nodes get content by digest."""
    async with two(upstream, tmp_path) as (_, client), client.request(method, where) as answer:
        assert answer.status in (400, 404, 405)


async def test_a_node_says_who_it_is(upstream: FakeRegistry, tmp_path: Path) -> None:
    """Its name, its version, its uploads and what is free of its disk; and that it is alive."""
    async with two(upstream, tmp_path) as (node, client):
        async with client.get("/peer/v1/node") as answer:
            said = await answer.json()
        async with client.get("/healthz") as answer:
            assert 200 == answer.status

        assert node.name == said["name"]
        assert 0 == said["load"]
        assert said["free"] > 0


async def test_who_is_no_member_gets_nothing_and_costs_no_question(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """Without a certificate of the cluster there is no connection; by another's name no answer."""
    async with party(tmp_path, 2, registries=plain(upstream)) as guests:
        node, other = guests
        await held(node, upstream)
        before = len(upstream.requests)
        bare = ssl.create_default_context(cafile=str(node.files.ca_file))
        bare.check_hostname = False
        connector = aiohttp.TCPConnector(ssl=bare)
        async with aiohttp.ClientSession(connector=connector) as stranger:
            with pytest.raises(aiohttp.ClientError):
                async with stranger.get(
                    f"https://{node.name}{path(upstream)}", headers=asks(0, Owed="1")
                ) as answer:
                    await answer.read()
        async with node.peer(other) as client:
            said = {**asks(0, Owed="1"), "Registryd-Node": "127.0.0.1:1"}
            async with client.get(path(upstream), headers=said) as answer:
                assert 403 == answer.status
        assert before == len(upstream.requests)


async def test_slots_that_are_taken_send_askers_away(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """With every slot and every place in the queue taken: 503, and when to come again."""
    async with two(upstream, tmp_path) as (node, client):
        await held(node, upstream)
        serving = node.exchange.line.serving
        serving.used, serving.queued = serving.slots, 0
        async with client.get(path(upstream), headers=asks(0)) as answer:
            assert 503 == answer.status
            assert "Retry-After" in answer.headers
        assert serving.slots == serving.used
        assert 1 == node.exchange.counts.answers["refuse"]


async def test_an_asker_that_has_left_holds_no_place(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """Who hangs up in the queue is taken out of it."""
    async with two(upstream, tmp_path) as (node, client):
        await held(node, upstream)
        line = node.exchange.line
        line.serving.used = line.serving.slots
        asking = asyncio.ensure_future(client.get(path(upstream), headers=asks(0)))
        await until(lambda: len(line))
        asking.cancel()
        await until(lambda: not len(line))
        line.serving.used = 0


async def test_a_chunk_that_breaks_cuts_the_connection(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """Nobody can take what has come for the whole stretch."""
    gate = asyncio.Event()
    upstream.stall("GET .*/blobs/", gate, at=512 * KIB, times=None)
    async with two(upstream, tmp_path) as (node, client):
        async with client.get(path(upstream), headers=asks(0, Owed="1")) as answer:
            assert 206 == answer.status
            await answer.content.read(1000)
            ingest = node.node.store.arriving()[0]
            await node.node.store.abort(ingest, RuntimeError("broken"), discard=True)
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        gate.set()


async def test_a_chunk_that_proves_wrong_while_it_is_given_breaks_off(tmp_path: Path) -> None:
    """What was given of it and what comes in its place are not one chunk."""
    async with world(tmp_path) as it:
        size = len(SWARMED)
        wanted = _wanted(size)
        await it.ingest.write(0, [SWARMED[:1000]], checked=False)
        async with it.ingest.follow(0, 2 * MIB, proven=False, checked=False) as follower:
            stretch = Stretch.arriving(follower, it.ingest, it.swarm, wanted)
            spans = stretch.spans()
            assert (0, 1000) == await anext(spans)
            it.swarm.proving.generations[0] += 1
            await it.ingest.write(1000, [SWARMED[1000 : 2 * MIB]])
            with pytest.raises(IngestAborted):
                await anext(spans)
        assert (1000, False) == (stretch.here, stretch.checked)


def _wanted(size: int) -> Wanted:
    """A request for the first chunk of the swarmed blob."""
    asked, geometry = Request("b:1", 1, 0), Geometry(size)
    return Wanted(REPOSITORY, DIGEST, geometry, 0, 0, 2 * MIB, asked, False, 0.0, None)


async def test_the_hash_of_a_chunk_is_told_while_the_rest_is_on_its_way(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """To those who may have it, for chunks that there are; for nothing else."""
    async with two(upstream, tmp_path) as (_, client):
        async with client.get(path(upstream), headers=asks(0, Owed="1")) as answer:
            await answer.read()
        about = f"/peer/v1/chunks/{DIGEST}"
        here = f"repository={upstream.name}/team/app"
        statuses = {}
        for what in (f"0?{here}", f"1?{here}", f"77?{here}", f"x?{here}", f"0?{here}2", "0"):
            async with client.get(f"{about}/{what}") as answer:
                statuses[what] = answer.status

        assert [200, 404, 404, 404, 404, 400] == list(statuses.values())


async def test_who_says_that_it_is_barred_is_believed(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """An owner that cannot reach the registry asks us: its chunks are ours for that time."""
    async with two(upstream, tmp_path) as (node, client):
        said = asks(0, Owed="1", Barred="30")
        async with client.get(path(upstream), headers=said) as answer:
            assert 206 == answer.status
            await answer.read()
        swarm = node.exchange.swarm(DIGEST)
        assert swarm is not None
        asker = client.headers["Registryd-Node"]
        left = swarm.fetching._chooser.bars[asker] - swarm.effort.now

        assert 0 < left <= 30
