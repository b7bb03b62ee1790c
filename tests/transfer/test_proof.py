"""Whose a held blob is: a registry's word counts only for what came from that registry."""

from collections.abc import AsyncIterator

import pytest

from cache.content import Digest
from cache.errors import DigestMismatch
from cache.store import BlobStore
from registryd.oci.errors import BadAnswer, BlobUnknown
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.transfer.library import Library
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.transfer.conftest import Connect

SECRET = b"a private layer" * 1000
DIGEST = Digest.of(SECRET)


@pytest.fixture
async def evil() -> AsyncIterator[FakeRegistry]:
    """A registry of somebody who knows a digest."""
    async with Upstream().serve() as server:
        yield server


@pytest.fixture
async def secret(library: Library, upstream: FakeRegistry, remote: RegistryClient) -> Digest:
    """A layer that the cache holds through a private repository of ``upstream``."""
    digest = Digest.parse(upstream.add_blob("team/private", SECRET))
    flight = await library.blob(remote, Reference(upstream.name, "team/private"), digest)
    assert flight is not None
    await flight.landed()
    return digest


async def test_another_registry_s_yes_is_not_enough(
    library: Library, secret: Digest, evil: FakeRegistry, connect: Connect, store: BlobStore
) -> None:
    """It says by HEAD that it has the blob, but cannot give it: nor do we, through its name."""
    evil.answer("HEAD .*/blobs/", 200, times=None, Content_Length=str(len(SECRET)))
    app = Reference(evil.name, "mine/app")
    client = await connect(evil)

    with pytest.raises(BlobUnknown):
        await library.blob(client, app, secret)
    assert not await store.is_member(app.name, secret)


async def test_another_registry_s_other_bytes_are_not_enough(
    library: Library, secret: Digest, evil: FakeRegistry, connect: Connect, store: BlobStore
) -> None:
    """What it gives has to be the blob."""
    evil.answer("GET .*/blobs/", 200, b"x" * len(SECRET), times=None)
    app = Reference(evil.name, "mine/app")

    with pytest.raises(DigestMismatch):
        await library.blob(await connect(evil), app, secret)
    assert not await store.is_member(app.name, secret)


async def test_who_gives_the_bytes_has_them(
    library: Library, secret: Digest, evil: FakeRegistry, connect: Connect, store: BlobStore
) -> None:
    """Another registry that really has the blob proves it once, by giving it."""
    evil.add_blob("mine/app", SECRET)
    app = Reference(evil.name, "mine/app")
    client = await connect(evil)
    given = [await library.blob(client, app, secret) for _ in range(2)]

    assert [None, None] == given
    assert [f"GET /v2/mine/app/blobs/{secret}"] == evil.lines("/blobs/")


async def test_no_answer_to_head_is_no_yes(
    library: Library, secret: Digest, upstream: FakeRegistry, remote: RegistryClient
) -> None:
    """A registry without HEAD has said nothing of the blob: it is asked for the bytes."""
    upstream.answer("HEAD .*/blobs/", 405, times=None)
    app = Reference(upstream.name, "team/other")

    with pytest.raises(BlobUnknown):
        await library.blob(remote, app, secret)


async def test_a_web_page_is_no_yes(
    library: Library, secret: Digest, upstream: FakeRegistry, remote: RegistryClient
) -> None:
    """A server that answers everything with a page is no registry."""
    upstream.answer("HEAD .*/blobs/", 200, times=None, Content_Type="text/html")
    app = Reference(upstream.name, "team/other")

    with pytest.raises(BadAnswer):
        await library.blob(remote, app, secret)
