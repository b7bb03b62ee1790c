"""Who pushes through a node to another registry, and what comes of those who leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from registryd.config import AccessConfig
from tests.fakes.held import HeldRegistry
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import until
from tests.server.pushing import ANN, BOB, LAYER, LAYER_DIGEST, WRONG, place_of, push, put_manifest
from tests.server.test_uploads import ask, code, left
from tests.server.wire import connected


@pytest.fixture
async def client(stranger: aiohttp.ClientSession) -> AsyncIterator[aiohttp.ClientSession]:
    yield stranger


@pytest.fixture
async def upstream() -> AsyncIterator[HeldRegistry]:
    async with HeldRegistry().serve() as server:
        yield server


@pytest.fixture
def app(upstream: FakeRegistry) -> str:
    """Where the node has the upstream's repository."""
    return place_of(upstream)


@pytest.fixture
async def guarded() -> AsyncIterator[FakeRegistry]:
    """A registry that wants a password."""
    users = {"ann": "secret-word", "bob": "other-word"}
    async with Upstream(users=users).serve() as server:
        yield server


async def test_each_pushes_as_themselves(guarded: FakeRegistry, tmp_path: Path) -> None:
    """A push goes up with the caller's own login, never with the node's, and opens the repository
    to its pusher alone."""
    password = tmp_path / "password"
    password.write_text("secret-word")
    settings = {"username": "ann", "password_file": password}
    app = place_of(guarded)
    async with (
        running_node(tmp_path, registries=plain(guarded, **settings)) as node,
        node.stranger() as client,
        node.owner() as owner,
    ):
        nobody = await ask(client, "POST", f"{app}/blobs/uploads/")
        wrong = await ask(client, "POST", f"{app}/blobs/uploads/", **WRONG)
        assert not guarded.repositories
        bob = await push(client, app, **BOB)
        seen = {request.headers.get("Authorization") for request in guarded.asked("PUT")}
        reads = [
            (await ask(client, "GET", f"{app}/manifests/1", **login))[0]
            for login in (BOB, WRONG, {})
        ]
        own = await push(owner, app.replace("team/app", "team/own"))

    assert (401, 403) == (nobody[0], wrong[0])
    assert nobody[1]["www-authenticate"].endswith(
        f'scope="repository:{guarded.name}/team/app:pull,push"'
    )
    assert ([201] * 3, {BOB["Authorization"]}) == (bob, seen)
    assert [200, 403, 401] == reads
    assert [201] * 3 == own  # the daemon's owner uses what the daemon is configured with


async def test_a_token_of_ours_carries_the_login(guarded: FakeRegistry, tmp_path: Path) -> None:
    """What a client does with the challenge: a token for its login, and the push with that."""
    app = place_of(guarded)
    async with (
        running_node(tmp_path, registries=plain(guarded)) as node,
        node.stranger() as client,
    ):
        tokens = []
        for login in (ANN, {}):
            answer = await ask(client, "GET", "/token?service=registryd", **login)
            tokens.append(f"Bearer {json.loads(answer[2])['token']}")
        good = await push(client, app, Authorization=tokens[0])
        nobody = await ask(client, "POST", f"{app}/blobs/uploads/", Authorization=tokens[1])

    assert ([201] * 3, 403) == (good, nobody[0])
    assert "www-authenticate" not in nobody[1]


async def test_who_may_read_only(tmp_path: Path) -> None:
    """Where a token server lets everybody read and ann write, nobody else writes."""
    async with (
        FakeTokenServer(users={"ann": "secret-word"}).serve() as tokens,
        Upstream(tokens=tokens).serve() as upstream,
        running_node(tmp_path, registries=plain(upstream)) as node,
        node.stranger() as client,
    ):
        app = place_of(upstream)
        nobody = await ask(client, "POST", f"{app}/blobs/uploads/")
        ann = await push(client, app, **ANN)

    assert (401, [201] * 3) == (nobody[0], ann)


async def test_a_session_is_its_opener_s(guarded: FakeRegistry, tmp_path: Path) -> None:
    """A session that ann has opened is not bob's, nor nobody's."""
    app = place_of(guarded)
    async with (
        running_node(tmp_path, registries=plain(guarded)) as node,
        node.stranger() as client,
    ):
        _, headers, _ = await ask(client, "POST", f"{app}/blobs/uploads/", **ANN)
        place = headers["location"]
        statuses = [
            (await ask(client, "GET", place, **login))[0] for login in (BOB, WRONG, {}, ANN)
        ]

    assert [404, 404, 404, 204] == statuses


async def test_a_node_known_by_its_connection(upstream: FakeRegistry, tmp_path: Path) -> None:
    """Where the connection itself is the node's login, its owner alone pushes by it."""
    socket = tmp_path / "up.sock"
    async with FakeRegistry().serve(path=str(socket)) as behind:
        registries = plain(upstream, endpoint=f"unix://{socket}", share_login=True)
        async with (
            running_node(tmp_path, registries=registries) as node,
            node.stranger() as client,
            node.owner() as owner,
        ):
            app = place_of(upstream)
            others = await ask(client, "POST", f"{app}/blobs/uploads/", **ANN)
            asked = behind.lines()
            own = await push(owner, app)

    assert (403, "DENIED", [], [201] * 3) == (others[0], code(others[2]), asked, own)


@pytest.mark.parametrize("kind", ["offline", "not allowed"])
async def test_nothing_is_dialled(upstream: FakeRegistry, tmp_path: Path, kind: str) -> None:
    """A registry that is offline, or not allowed, is one clear refusal of every part of a push."""
    offline = kind == "offline"
    access = AccessConfig(allow=["*"] if offline else ["other.test"])
    registries = plain(upstream, offline=offline)
    app = place_of(upstream)
    async with (
        running_node(tmp_path, registries=registries, access=access) as node,
        node.stranger() as client,
    ):
        refused = [
            await ask(client, "POST", f"{app}/blobs/uploads/"),
            await ask(
                client, "POST", f"{app}/blobs/uploads/?mount={LAYER_DIGEST}&from=localhost/x"
            ),
            await put_manifest(client, app),
        ]

    wanted = (503, "is offline") if offline else (403, "is not allowed here")
    for status, _, body in refused:
        assert wanted[0] == status
        assert wanted[1] in json.loads(body)["errors"][0]["message"]
    assert [] == upstream.lines()


# leaving


async def test_a_client_that_leaves_at_the_end_changes_nothing(
    client: aiohttp.ClientSession, node: RunningNode, upstream: HeldRegistry, app: str
) -> None:
    """Who goes away after the last byte leaves a push behind that is ended: the next one finds
    the blob."""
    gate = upstream.hold(f"PUT .*{LAYER_DIGEST.hex}")
    async with connected(node.port) as wire:
        place = f"{app}/blobs/uploads/?digest={LAYER_DIGEST}"
        wire.send("POST", place, f"Content-Length: {len(LAYER)}", body=LAYER)
        await until(lambda: bool(upstream.lines("PUT")))
    gate.set()
    name = f"{upstream.name}/team/app"
    async with asyncio.timeout(20):
        while not await node.node.store.is_member(name, LAYER_DIGEST):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)

    assert 200 == (await ask(client, "HEAD", f"{app}/blobs/{LAYER_DIGEST}"))[0]


async def test_a_client_that_leaves_in_the_middle(
    node: RunningNode, upstream: FakeRegistry, app: str
) -> None:
    """Who goes away in the middle of a push in one request leaves nothing, here or there."""
    async with connected(node.port) as wire:
        place = f"{app}/blobs/uploads/?digest={LAYER_DIGEST}"
        wire.send("POST", place, f"Content-Length: {len(LAYER)}", body=LAYER[:1000])
        await until(lambda: bool(node.node.store.arriving()))
    await until(lambda: not node.node.store.arriving())

    assert ([], []) == (upstream.lines("PUT"), left(node))
    assert node.node.store.find(LAYER_DIGEST) is None
