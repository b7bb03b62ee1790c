"""The client against a real registry, in the three ways in which one is guarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache.content import Descriptor
from registryd.oci.errors import ManifestUnknown, NameUnknown, Unauthorized
from registryd.oci.manifest import parse
from registryd.oci.reference import Reference
from registryd.ports import Body
from registryd.remote.client import RegistryClient
from registryd.secrets import Login, Secret
from tests.fakes.bodies import HeldBody
from tests.fakes.registry import OCI_CONFIG, OCI_LAYER, make_image
from tests.real.registry import (
    JwtTokenServer,
    RealRegistry,
    basic_registry,
    open_registry,
    token_registry,
)
from tests.remote.conftest import OpenRemotes

ANN = Login("ann", Secret("secret-word"), origin="a test")
WRONG = Login("ann", Secret("wrong-word"), origin="a test")
CONFIG = b'{"os":"linux","architecture":"amd64"}'
LAYER = bytes(range(256)) * 10_000


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with open_registry(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    folder = tmp_path_factory.mktemp("basic")
    with basic_registry(folder, {"ann": "secret-word"}) as registry:
        yield registry


@pytest.fixture
async def token_server(tmp_path: Path) -> AsyncIterator[JwtTokenServer]:
    server = JwtTokenServer(tmp_path, users={"ann": "secret-word"}, anonymous=True)
    async with server.serve():
        yield server


@pytest.fixture
def guarded(token_server: JwtTokenServer, tmp_path: Path) -> Iterator[RealRegistry]:
    with token_registry(tmp_path, token_server) as registry:
        yield registry


async def push_image(client: RegistryClient, image: Reference) -> Descriptor:
    """Push a small image and give its descriptor."""
    for media_type, content in ((OCI_CONFIG, CONFIG), (OCI_LAYER, LAYER)):
        held = content

        @asynccontextmanager
        async def opened(held: bytes = held) -> AsyncIterator[Body]:
            yield HeldBody(held)

        blob = Descriptor.of(media_type, content)
        if not await client.has_blob(image, blob.digest):
            await client.push_blob(image, blob, opened)
    document = parse(make_image(LAYER, config=CONFIG))
    await client.push_manifest(image, document)
    return document.descriptor


async def check_image(client: RegistryClient, image: Reference) -> None:
    """Everything that a pull does, on an image that is pushed first."""
    pushed = await push_image(client, image)
    layer = Descriptor.of(OCI_LAYER, LAYER)

    assert pushed == await client.resolve(image)
    assert pushed == (await client.fetch_manifest(image.with_digest(pushed.digest))).descriptor
    assert [image.tag] == await client.tags(image)
    assert layer.size == await client.blob_size(image, layer.digest)
    for start, stop in ((0, None), (5, 1000), (layer.size, None)):
        async with client.fetch_blob(image, layer.digest, start, stop) as body:
            content = b"".join([piece async for piece in body])

            assert (start, LAYER[start:stop]) == (body.start, content)
    assert await client.mount_blob(image.bare(), layer.digest, image.repository)


async def test_open(plain: RealRegistry, open_remotes: OpenRemotes) -> None:
    """A loopback registry without TLS is found without being configured."""
    client = (await open_remotes()).remote(plain.name)
    await client.ping()
    await check_image(client, Reference(plain.name, "team/open", "1.0"))


async def test_open_missing(plain: RealRegistry, open_remotes: OpenRemotes) -> None:
    """What is not there is not found, tag or repository."""
    client = (await open_remotes()).remote(plain.name)
    with pytest.raises(ManifestUnknown):
        await client.resolve(Reference(plain.name, "team/none", "1.0"))
    with pytest.raises(NameUnknown):
        await client.tags(Reference(plain.name, "team/none"))


async def test_basic(basic: RealRegistry, open_remotes: OpenRemotes) -> None:
    """The whole of it with a password."""
    client = (await open_remotes()).remote(basic.name, ANN)
    await client.ping()
    await check_image(client, Reference(basic.name, "team/basic", "1.0"))


async def test_basic_refused(basic: RealRegistry, open_remotes: OpenRemotes) -> None:
    """A wrong password and none at all are told apart."""
    remotes = await open_remotes()
    with pytest.raises(Unauthorized, match="refused the credentials of user 'ann' from a test"):
        await remotes.remote(basic.name, WRONG).ping()
    with pytest.raises(Unauthorized, match="wants a login"):
        await remotes.remote(basic.name).ping()


async def test_tokens(
    guarded: RealRegistry, token_server: JwtTokenServer, open_remotes: OpenRemotes
) -> None:
    """The whole of it with tokens: one for push, and nobody's for pull."""
    remotes = await open_remotes()
    image = Reference(guarded.name, "team/tokens", "1.0")
    await remotes.remote(guarded.name, ANN).ping()
    await check_image(remotes.remote(guarded.name, ANN), image)
    basic = token_server.counts["basic"]
    await remotes.remote(guarded.name).resolve(image)

    # One for the ping, one to push and mount, one to pull; and one of nobody.
    assert (3, 1) == (basic, token_server.counts["anonymous"])


async def test_tokens_refused(
    guarded: RealRegistry, token_server: JwtTokenServer, open_remotes: OpenRemotes
) -> None:
    """A wrong password is told, and nobody may push."""
    remotes = await open_remotes()
    with pytest.raises(Unauthorized, match="refused the credentials of user 'ann' from a test"):
        await remotes.remote(guarded.name, WRONG).ping()
    with pytest.raises(Unauthorized, match="registryctl login"):
        await push_image(remotes.remote(guarded.name), Reference(guarded.name, "team/x", "1"))


async def test_identity_token(
    guarded: RealRegistry, token_server: JwtTokenServer, open_remotes: OpenRemotes
) -> None:
    """An identity token does as a password does."""
    token_server.refresh.add("refresh-word")
    client = (await open_remotes()).remote(
        guarded.name, Login(identity_token=Secret("refresh-word"))
    )
    image = Reference(guarded.name, "team/refresh", "1.0")
    await push_image(client, image)
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(client.resolve(image))

    assert {"refresh": 2} == token_server.counts
