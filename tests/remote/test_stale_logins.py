"""Logins that lie in files grow old: what anybody may read is read all the same, and it is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from registryd.config import MirrorConfig, RegistryConfig
from registryd.oci.errors import Denied, RegistryError, Unauthorized
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.remote.credentials import CredentialFiles
from registryd.secrets import Login, Secret
from tests.fakes.clock import FakeClock
from tests.fakes.http import Reply, reply
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect, OpenRemotes
from tests.remote.test_credentials import entry

STORED = Login("ann", Secret("wrong-word"), origin='/a.json, key "K"', stored=True)


@pytest.fixture
def image(guarded: FakeRegistry) -> Reference:
    guarded.add_image("team/app", "1.0", b"layer")
    return Reference(guarded.name, "team/app", "1.0")


@pytest.fixture
def told() -> list[str]:
    return []


async def test_a_stale_login_does_not_hide_what_is_public(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    told: list[str],
    clock: FakeClock,
) -> None:
    """Once refused, it is done without for a while; a line says which, where and what to do (9)."""
    client = await connect(guarded, STORED, warned=told.append)
    await client.resolve(image)
    await client.fetch_manifest(image)

    assert {"refused": 2, "anonymous": 1} == tokens.counts
    line = (
        f'the login stored in /a.json, key "K" was refused by {guarded.name}; went on without it,'
        f" as team/app is public: run registryctl logout {guarded.name}"
    )
    assert [line] == told


async def test_a_mirror_s_login_is_the_mirror_s(
    registry: FakeRegistry,
    guarded: FakeRegistry,
    image: Reference,
    open_remotes: OpenRemotes,
    told: list[str],
    tmp_path: Path,
) -> None:
    """The line names the host whose login is stale, not the registry that it stands for."""
    (file := tmp_path / "a.json").write_text(
        json.dumps({"auths": {guarded.name: entry("ann", "wrong-word")}})
    )
    config = RegistryConfig(plain_http=True, mirrors=(MirrorConfig(guarded.url),))
    remotes = await open_remotes(
        {registry.name: config}, credentials=CredentialFiles([file]), warned=told.append
    )
    await remotes.remote(registry.name).resolve(Reference(registry.name, "team/app", "1.0"))

    assert 1 == len(told)
    assert f"was refused by {guarded.name};" in told[0]
    assert told[0].endswith(f"registryctl logout {guarded.name}")


@pytest.mark.parametrize("stored", [True, False])
async def test_where_one_is_needed_it_is_final(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    told: list[str],
    stored: bool,
) -> None:
    """The error is the one about the login, with its place; a login that was given is not left."""
    tokens.anonymous = not stored
    login = Login("ann", Secret("wrong-word"), origin="/a.json", stored=stored)
    client = await connect(guarded, login, warned=told.append)
    with pytest.raises(Unauthorized, match=r"user 'ann' from /a\.json"):
        await client.resolve(image)

    assert 0 == tokens.counts["anonymous"]
    assert [] == told


async def test_a_good_login_that_is_not_enough(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A refusal by the registry itself names the file as well."""
    guarded.answer("team/app", 401, times=None, WWW_Authenticate=f'Bearer realm="{tokens.url}/t"')
    login = Login("ann", Secret("secret-word"), origin='/a.json, key "K"', stored=True)
    client = await connect(guarded, login)
    with pytest.raises(Denied, match=r"as user 'ann' \(login from /a.json, key \"K\"\)"):
        await client.resolve(image)


class Strict(FakeRegistry):
    """Says 403 to a token that was got by a login; to GET alone, or to HEAD as well."""

    strict = ("GET", "HEAD")

    async def respond(self, request: web.BaseRequest) -> Reply:
        by_login = request.headers.get("Authorization", "").endswith("-basic")
        if by_login and request.method in self.strict:
            return reply(403)
        return await super().respond(request)


@pytest.mark.parametrize("anonymous", [True, False])
async def test_a_registry_that_says_403(
    tokens: FakeTokenServer, connect: Connect, told: list[str], anonymous: bool
) -> None:
    """Some say 403 to what a login may not see though all may: asked again without (9).

    Where that does not help, the line names the file.
    """
    login = Login("ann", Secret("secret-word"), origin="/a.json", stored=True)
    tokens.anonymous = anonymous
    async with Strict(tokens=tokens).serve() as registry:
        registry.add_image("team/app", "1.0")
        image = Reference(registry.name, "team/app", "1.0")
        client = await connect(registry, login, warned=told.append)
        if anonymous:
            await client.resolve(image)
        else:
            with pytest.raises(Denied, match=r"with the login stored in /a\.json"):
                await client.resolve(image)

    assert anonymous == bool(told)


async def test_what_is_hidden_from_nobody_in_particular(
    tokens: FakeTokenServer, connect: Connect, told: list[str]
) -> None:
    """Where nobody sees it either, it may be hidden: the line is about the login."""
    login = Login("ann", Secret("secret-word"), origin="/a.json", stored=True)
    async with Strict(tokens=tokens).serve() as registry:
        registry.add_image("team/app", "1.0")
        client = await connect(registry, login, warned=told.append)
        with pytest.raises(Denied, match=r"with the login stored in /a\.json"):
            await client.resolve(Reference(registry.name, "team/app", "2.0"))

    assert [] == told


class Guarding(FakeRegistry):
    """Says 403 for tag 2.0 to a login, and holds who asks for it without one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def respond(self, request: web.BaseRequest) -> Reply:
        if request.path.endswith("/2.0"):
            if "Authorization" in request.headers:
                return reply(403)
            self.asked.set()
            await self.gate.wait()
        return await super().respond(request)


async def test_nobody_else_goes_without_meanwhile(connect: Connect, told: list[str]) -> None:
    """A good login counts for others while it is tried whether one request goes without it."""
    login = Login("ann", Secret("secret-word"), origin="/a.json", stored=True)
    async with Guarding().serve() as registry:
        registry.users = {"ann": "secret-word"}
        registry.add_image("team/app", "1.0")
        image = Reference(registry.name, "team/app", "1.0")
        client = await connect(registry, login, warned=told.append)
        await client.resolve(image)

        async def meanwhile() -> str:
            try:
                await registry.asked.wait()
                return str((await client.fetch_manifest(image)).digest)
            finally:
                registry.gate.set()

        refused, read = await asyncio.gather(
            client.fetch_manifest(image.with_tag("2.0")), meanwhile(), return_exceptions=True
        )

    assert isinstance(refused, Denied)
    assert str(read).startswith("sha256:")
    assert [] == told


async def test_basic_too(registry: FakeRegistry, connect: Connect, told: list[str]) -> None:
    """Where the registry itself wants the password, it is asked once with and once without."""
    registry.users = {"ann": "secret-word"}
    image = Reference(registry.name, "team/app", "1.0")
    client = await connect(registry, STORED, warned=told.append)
    with pytest.raises(Unauthorized, match=r"user 'ann' from /a\.json"):
        await client.resolve(image)

    assert ["", "Basic", ""] == [
        seen.headers.get("Authorization", "").partition(" ")[0] for seen in registry.requests
    ]
    assert [] == told


async def test_a_push_never_goes_without(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """To write is never asked for in nobody's name."""
    client: RegistryClient = await connect(guarded, STORED)
    with pytest.raises(RegistryError):
        await client.ask_push(image)

    assert 0 == tokens.counts["anonymous"]


async def test_a_helper_is_not_asked_where_no_login_is_wanted(
    registry: FakeRegistry, guarded: FakeRegistry, open_remotes: OpenRemotes, tmp_path: Path
) -> None:
    """Helpers are slow: only a registry that asks for a login makes us look for one (10)."""
    asked: list[str] = []

    def note(name: str, server: str) -> Login | None:
        asked.append(server)
        return None

    file = tmp_path / "config.json"
    file.write_text(json.dumps({"credsStore": "fake", "auths": {"x.io": entry("a", "b")}}))
    files = CredentialFiles([file], helper=note)
    config = RegistryConfig(plain_http=True)
    names = {registry.name: config, guarded.name: config}
    remotes = await open_remotes(names, credentials=files)
    for each in (registry, guarded):
        each.add_image("team/app", "1.0")
        await remotes.remote(each.name).resolve(Reference(each.name, "team/app", "1.0"))

    assert [guarded.name] == asked
