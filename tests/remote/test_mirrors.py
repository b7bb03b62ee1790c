"""Mirrors of a registry: their order, what each is asked for, and when the next one is asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.content import Descriptor, Digest
from registryd.config import MirrorConfig, RegistryConfig, TransferConfig
from registryd.oci.errors import (
    Denied,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    Unauthorized,
)
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.client import RegistryClient
from registryd.remote.credentials import CredentialFiles
from registryd.remote.remotes import RegistryRemotes
from registryd.secrets import NOBODY, Login, Secret
from tests.fakes.bodies import Opener
from tests.fakes.clock import FakeClock
from tests.fakes.http import reply
from tests.fakes.registry import FakeRegistry, digest_of
from tests.remote.conftest import OpenRemotes

LAYER = b"layer " * 1000
BLOB = Digest.parse(digest_of(LAYER))
ANN = Login("ann", Secret("secret-word"))


@pytest.fixture
async def servers() -> AsyncIterator[list[FakeRegistry]]:
    """Two mirrors and the registry, each with the same image."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(FakeRegistry().serve()) for _ in range(3)]
        for server in opened:
            server.add_image("team/app", "1", LAYER)
        yield opened


class Reached:
    """A client whose registry is reached by way of mirrors, and what each host was asked."""

    def __init__(
        self, remotes: RegistryRemotes, servers: list[FakeRegistry], login: Login | None
    ) -> None:
        self.remotes = remotes
        self.servers = servers
        self.client: RegistryClient = remotes.remote(servers[-1].name, login)  # type: ignore[assignment]
        self.app = Reference(servers[-1].name, "team/app")

    @property
    def asked(self) -> list[int]:
        """How many requests each host has had since this was last looked at."""
        counts = [len(server.requests) for server in self.servers]
        for server in self.servers:
            server.requests.clear()
        return counts

    async def blob(self, start: int = 0) -> tuple[bytes, str]:
        """The layer's bytes, and who sent them."""
        async with self.client.fetch_blob(self.app, BLOB, start) as body:
            return b"".join([piece async for piece in body]), body.source

    async def tag(self) -> str:
        return str((await self.client.resolve(self.app.with_tag("1"))).digest)


@pytest.fixture
async def reach(open_remotes: OpenRemotes, servers: list[FakeRegistry]) -> Any:
    async def reach_(
        *mirrors: MirrorConfig,
        login: Login | None = None,
        fallback: str = "always",
        config: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Reached:
        entry = RegistryConfig(
            plain_http=True,
            mirrors=mirrors or tuple(MirrorConfig(server.url) for server in servers[:-1]),
            fallback=fallback,
            **(config or {}),
        )
        remotes = await open_remotes({servers[-1].name: entry}, **settings)
        return Reached(remotes, servers, login)

    return reach_


async def test_order(reach: Any, servers: list[FakeRegistry]) -> None:
    """The first mirror answers for all; who sent a blob is told by its name."""
    reached = await reach()
    content, source = await reached.blob()

    assert LAYER == content
    assert servers[0].name == source
    assert await reached.tag()
    assert [2, 0, 0] == reached.asked


@pytest.mark.parametrize(
    ("mirror", "asked"),
    [
        ({"capabilities": ("pull",)}, {"tag": 0, "digest": 1, "blob": 1}),
        ({"capabilities": ("resolve",)}, {"tag": 1, "digest": 0, "blob": 0}),
        ({"pull": "digest"}, {"tag": 0, "digest": 1, "blob": 1}),
        ({"pull": "tag"}, {"tag": 1, "digest": 0, "blob": 1}),
    ],
)
async def test_capabilities(
    reach: Any, servers: list[FakeRegistry], mirror: dict[str, Any], asked: dict[str, int]
) -> None:
    """A host is asked for what it serves; lists of tags and pushes are the registry's own."""
    reached = await reach(MirrorConfig(servers[0].url, **mirror))
    client, app = reached.client, reached.app
    found = {}
    manifest = await client.resolve(app.with_tag("1"))
    found["tag"] = reached.asked[0]
    await client.fetch_manifest(app.with_digest(manifest.digest))
    found["digest"] = reached.asked[0]
    await reached.blob()
    found["blob"] = reached.asked[0]

    assert asked == found
    assert ["1"] == await client.tags(app)
    await client.ping()
    await client.push_blob(app, described(b"new"), Opener(b"new"))
    assert await client.has_blob(app, BLOB)
    assert 0 == reached.asked[0]


def described(content: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.parse(digest_of(content)), len(content))


async def test_push_goes_to_who_takes_pushes(reach: Any, servers: list[FakeRegistry]) -> None:
    """To the first host with that capability and to no other, its session's URL included."""
    both = MirrorConfig(servers[0].url), MirrorConfig(servers[1].url, capabilities=("push",))
    reached = await reach(*both)
    await reached.client.push_blob(reached.app, described(b"new"), Opener(b"new"))

    assert [0, 2, 0] == reached.asked
    assert b"new" in servers[1].repositories["team/app"].blobs.values()


# --- the next host -----------------------------------------------------------------------------

DOWN = ("drop", 401, 403, 404, 429, 500, 503, "page")


def fail(server: FakeRegistry, how: str | int) -> None:
    """Have a server fail each request so."""
    if how == "drop":
        server.drop(".", None)
    elif how == "page":
        server.answer(".", 200, "<html>log in", times=None, Content_Type="text/html")
    else:
        server.answer(".", int(how), times=None)


@pytest.mark.parametrize("how", DOWN)
async def test_always(
    reach: Any, servers: list[FakeRegistry], clock: FakeClock, how: str | int
) -> None:
    """Whatever a mirror says or does not say, the next host is asked, and nobody waits."""
    fail(servers[0], how)
    reached = await reach()

    assert (LAYER, servers[1].name) == await reached.blob()
    assert await reached.tag()
    assert [] == clock.slept


@pytest.mark.parametrize(
    ("fallback", "how", "goes_on"),
    [
        ("not-found", 404, True),
        ("not-found", 403, False),
        ("not-found", 500, False),
        ("not-found", "drop", False),
        ("never", 404, False),
        ("never", "drop", False),
    ],
)
async def test_other_policies(
    reach: Any, servers: list[FakeRegistry], fallback: str, how: str | int, goes_on: bool
) -> None:
    """By "not-found" only 404 leads on; by "never" the first word is final, and waited for."""
    fail(servers[0], how)
    reached = await reach(fallback=fallback)
    if goes_on:
        assert (LAYER, servers[1].name) == await reached.blob()
    else:
        with pytest.raises((RegistryError, TransportError)):
            await reached.blob()
    first, others, _ = reached.asked

    assert goes_on == bool(others)
    assert (how in (500, "drop")) == (first >= 5)


async def test_all_fail(reach: Any, servers: list[FakeRegistry], clock: FakeClock) -> None:
    """The last host is asked with patience; the line says what became of the others."""
    for server in servers:
        fail(server, 500)
    reached = await reach()
    with pytest.raises(RegistryError, match="500"):
        await reached.tag()

    assert [1, 1, 5] == reached.asked
    servers[2].faults.clear()
    fail(servers[2], "drop")
    reached = await reach()
    with pytest.raises(TransportError, match=r"before that: 127.*status 500; 127.*status 500"):
        await reached.blob()


async def test_absent_everywhere(reach: Any, servers: list[FakeRegistry]) -> None:
    """What no host has is not there: the registry's own word, exit code 2."""
    for server in servers:
        fail(server, 404)
    reached = await reach()
    with pytest.raises(ManifestUnknown):
        await reached.tag()

    assert [1, 1, 1] == reached.asked


async def test_not_before_is_a_hosts_own(
    reach: Any, servers: list[FakeRegistry], clock: FakeClock
) -> None:
    """A mirror that wants to be left alone is, without a request and without a wait."""
    servers[0].answer(".", 429, times=1, Retry_After="100")
    reached = await reach()
    for _ in range(3):
        await reached.blob()
    clock.now += 101
    await reached.blob()

    assert [2, 3, 0] == reached.asked
    assert [] == clock.slept


async def test_breaker(reach: Any, servers: list[FakeRegistry], clock: FakeClock) -> None:
    """After three failures a mirror is left alone, then one try decides for longer."""
    fail(servers[0], 502)
    reached = await reach()
    counts = []
    for wait in (0, 0, 0, 0, 5, 0, 5, 5):
        clock.now += wait
        await reached.blob()
        counts.append(reached.asked[0])
    alone = reached.remotes.breakers.left_alone()
    servers[0].faults.clear()
    clock.now += 20
    sources = [(await reached.blob())[1] for _ in range(2)]

    assert [1, 1, 1, 0, 1, 0, 0, 1] == counts
    assert [(servers[0].name, 20.0)] == [each[:2] for each in alone]
    assert [servers[0].name] * 2 == sources
    assert [] == reached.remotes.breakers.left_alone()


async def test_all_left_alone(reach: Any, servers: list[FakeRegistry]) -> None:
    """Where every mirror is left alone, the registry itself is asked all the same."""
    for server in servers[:2]:
        fail(server, 500)
    reached = await reach()
    for _ in range(3):
        await reached.blob()
    assert reached.asked

    assert (LAYER, servers[2].name) == await reached.blob()
    assert [0, 0, 1] == reached.asked


# --- content -----------------------------------------------------------------------------------


async def test_break_in_the_middle(reach: Any, servers: list[FakeRegistry]) -> None:
    """Who asks again at the byte reached is answered by the neighbour."""
    servers[0].cut("/blobs/", 1000)
    reached = await reach()
    came = b""
    with pytest.raises(TransportError):
        async with (
            reached.client.fetch_blob(reached.app, BLOB) as body,
            aclosing(aiter(body)) as it,
        ):
            async for piece in it:
                came += piece
    rest, source = await reached.blob(len(came))

    assert LAYER == came + rest
    assert servers[1].name == source
    assert [1, 1, 0] == reached.asked


async def test_wrong_manifest(reach: Any, servers: list[FakeRegistry]) -> None:
    """A manifest that does not match its digest comes from the next host, now and later."""
    reached = await reach()
    digest = Digest.parse(await reached.tag())
    exact = reached.app.with_digest(digest)
    other = reply(200, b'{"schemaVersion": 2}', Content_Type="application/json")
    servers[0].change("GET .*/manifests/", lambda answer: setattr(answer, "body", other.body))
    assert reached.asked
    for _ in range(2):
        assert digest == (await reached.client.fetch_manifest(exact)).digest

    assert [1, 2, 0] == reached.asked


async def test_ranges_are_a_hosts_own(reach: Any, servers: list[FakeRegistry]) -> None:
    """A mirror that gets ranges wrong gives whole blobs; of others ranges are asked still."""
    servers[0].answer("/blobs/", 501, times=1)
    reached = await reach()
    async with reached.client.fetch_blob(reached.app, BLOB, 100) as body:
        assert (0, servers[0].name) == (body.start, body.source)
    fail(servers[0], 404)
    async with reached.client.fetch_blob(reached.app, BLOB, 100) as body:
        assert (100, servers[1].name) == (body.start, body.source)


# --- names and logins --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "by", "line"),
    [
        ("", "path", "GET /v2/team/app/blobs/{}"),
        ("/hub/proxy", "path", "GET /v2/hub/proxy/team/app/blobs/{}"),
        ("/hub/proxy", "plain", "GET /hub/proxy/v2/team/app/blobs/{}"),
        ("", "ns", "GET /v2/team/app/blobs/{}?ns={}"),
    ],
)
async def test_names_at_a_mirror(
    reach: Any, servers: list[FakeRegistry], path: str, by: str, line: str
) -> None:
    """The URL's path is before the repository's name, or before /v2; ns is sent where asked."""
    reached = await reach(MirrorConfig(servers[0].url + path, by=by))
    servers[0].answer(".", 200, LAYER)
    await reached.blob()

    assert [line.format(BLOB, servers[2].name.replace(":", "%3A"))] == [
        each.replace(servers[2].name, servers[2].name.replace(":", "%3A"))
        for each in servers[0].lines()
    ]


@pytest.mark.parametrize("one_user", [True, False])
async def test_logins_stay_apart(
    reach: Any, servers: list[FakeRegistry], tmp_path: Path, one_user: bool
) -> None:
    """A login for the registry is never shown to a mirror; a mirror's own only for its user."""
    for server in servers:
        server.users = {"ann": "secret-word", "mia": "mirror-word"}
    file = tmp_path / "auth.json"
    mia = {"auth": "bWlhOm1pcnJvci13b3Jk"}
    file.write_text(json.dumps({"auths": {servers[1].name: mia}}))
    files = CredentialFiles([file])
    reached = await reach(login=ANN, credentials=files, one_user=one_user)
    _, source = await reached.blob()
    nobody = await reach(login=NOBODY, credentials=files, one_user=one_user)
    with pytest.raises((Unauthorized, NameUnknown, Denied)):
        await nobody.blob()
    shown = [{seen.headers.get("Authorization", "") for seen in each.requests} for each in servers]

    assert servers[1 if one_user else 2].name == source
    assert {""} == shown[0]
    assert ({"", f"Basic {mia['auth']}"} if one_user else {""}) == shown[1]


async def test_caller_proves_nothing_by_our_certificate(
    reach: Any, servers: list[FakeRegistry], tmp_path: Path
) -> None:
    """A mirror that lets this node in by its certificate is not asked for somebody else."""
    closed = MirrorConfig(
        servers[0].url, client_cert=tmp_path / "c.crt", client_key=tmp_path / "c.key"
    )
    reached = await reach(closed, login=NOBODY)
    await reached.blob()

    assert [0, 0, 1] == reached.asked


async def test_impatient_for_a_connection(
    reach: Any, servers: list[FakeRegistry], open_remotes: OpenRemotes
) -> None:
    """What the configuration allows a mirror for a connection is less than for a registry."""
    mirror = MirrorConfig("http://127.0.0.1:1")
    reached = await reach(mirror, transfer=replace(TransferConfig(), connect_timeout=1.0))

    assert 2.0 == mirror.connect_timeout
    assert (LAYER, servers[2].name) == await reached.blob()
