"""Fetching blobs: ranges, redirects, and every way in which a body can be wrong."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from cache.content import Digest
from registryd.config import TransferConfig
from registryd.oci.errors import BadAnswer, BlobUnknown, Denied
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.client import RegistryClient
from registryd.secrets import Login, Secret
from tests.fakes.http import Reply
from tests.fakes.registry import FakeCdn, FakeRegistry
from tests.remote.conftest import Connect

CONTENT = bytes(range(256)) * 2000
DIGEST = Digest.of(CONTENT)
BLOB = f"/v2/team/app/blobs/{DIGEST}"


@pytest.fixture
def repository(registry: FakeRegistry) -> Reference:
    registry.add_blob("team/app", CONTENT)
    return Reference(registry.name, "team/app")


async def fetch(
    client: RegistryClient, repository: Reference, start: int = 0, stop: int | None = None
) -> tuple[int, int | None, bytes]:
    """Where the body begins, of how many bytes, and what came."""
    async with client.fetch_blob(repository, DIGEST, start, stop) as body:
        return body.start, body.total, b"".join([piece async for piece in body])


async def test_whole(registry: FakeRegistry, repository: Reference, connect: Connect) -> None:
    """A blob without a range is asked for without one."""
    client = await connect(registry)

    assert (0, len(CONTENT), CONTENT) == await fetch(client, repository)
    assert "Range" not in registry.requests[-1].headers
    assert len(CONTENT) == registry.sent[str(DIGEST)]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (100, 5000), (7, None), (500_000, 900_000)])
async def test_4b_15_range(
    registry: FakeRegistry, repository: Reference, connect: Connect, start: int, stop: int | None
) -> None:
    """A stretch comes as asked; one that ends beyond the blob is clipped (15)."""
    client = await connect(registry)

    assert (start, len(CONTENT), CONTENT[start:stop]) == await fetch(
        client, repository, start, stop
    )
    assert 1 == len(registry.requests)


async def test_4b_15_ignored_range_gives_the_whole(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """200 to a Range is the whole blob from 0, and the body says so (15)."""
    registry.change("^GET", make_whole)
    client = await connect(registry)

    assert (0, len(CONTENT), CONTENT) == await fetch(client, repository, 1000, 2000)
    assert 1 == len(registry.requests)


def make_whole(reply: Reply) -> None:
    reply.status, reply.body = 200, CONTENT
    reply.headers.popall("Content-Range", None)


@pytest.mark.parametrize(
    "wrong",
    [
        "bytes 999-1998/512000",
        "bytes 1000-1998/512000",
        "bytes 1000-2000/512000",
        "bytes 0-511999/512000",
        "bytes */512000",
        "nonsense",
        None,
    ],
)
async def test_4b_15_wrong_content_range_is_never_used(
    registry: FakeRegistry, repository: Reference, connect: Connect, wrong: str | None
) -> None:
    """A 206 must be exactly what was asked for; the host is not asked for ranges again (15)."""
    registry.header("^GET", "Content-Range", wrong, times=1)
    client = await connect(registry)

    assert (0, len(CONTENT), CONTENT) == await fetch(client, repository, 1000, 2000)
    assert 0 == (await fetch(client, repository, 5, 10))[0]
    assert [True, False, False] == ["Range" in seen.headers for seen in registry.requests]


async def test_4b_15_content_range_without_unit(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """Nexus leaves "bytes " out."""
    registry.header("^GET", "Content-Range", "1000-1999/512000")
    client = await connect(registry)

    assert (1000, len(CONTENT), CONTENT[1000:2000]) == await fetch(client, repository, 1000, 2000)


@pytest.mark.parametrize("status", [400, 501])
async def test_4b_15_refused_range_falls_back(
    registry: FakeRegistry, repository: Reference, connect: Connect, status: int
) -> None:
    """A registry that refuses ranges is asked for the whole."""
    registry.answer("^GET", status)
    client = await connect(registry)

    assert (0, len(CONTENT), CONTENT) == await fetch(client, repository, 1000, 2000)


async def test_4b_15_range_at_the_end_is_complete(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """416 with a total that is where we are: nothing is missing (15)."""
    client = await connect(registry)
    end = len(CONTENT)

    assert (end, end, b"") == await fetch(client, repository, end)


async def test_4b_15_range_beyond_the_end_starts_again(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """416 with another total: what we have is not of this blob; it comes whole."""
    client = await connect(registry)

    assert (0, len(CONTENT), CONTENT) == await fetch(client, repository, len(CONTENT) + 5)


@pytest.mark.parametrize("start", [0, 1000])
async def test_short_body_is_an_error(
    registry: FakeRegistry, repository: Reference, connect: Connect, start: int
) -> None:
    """A connection that is cut is no end of a blob; what came before was given out."""
    registry.cut("^GET", 70_000)
    client = await connect(registry)
    got = bytearray()
    with pytest.raises(TransportError, match=registry.name):
        async with client.fetch_blob(repository, DIGEST, start) as body:
            async for piece in body:
                got += piece

    assert CONTENT[start : start + len(got)] == got


@pytest.mark.parametrize(("length", "words"), [(10, "broke off|announced"), (600_000, "broke off")])
async def test_wrong_length_is_an_error(
    registry: FakeRegistry, repository: Reference, connect: Connect, length: int, words: str
) -> None:
    """More or less than the Content-Length says is told, or was never more than announced."""
    registry.announce("^GET", length)
    client = await connect(registry)
    try:
        _, total, content = await fetch(client, repository)
    except TransportError as error:
        assert "broke off" in str(error)
    else:
        assert (length, CONTENT[:length]) == (total, content)


async def test_short_chunked_range_is_an_error(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """Without a Content-Length, the Content-Range says how much must come."""

    def shorten(reply: Reply) -> None:
        reply.length, reply.body = -1, reply.body[:500]

    registry.change("^GET", shorten)
    client = await connect(registry)
    with pytest.raises(TransportError, match="broke off after 500 of 1000 bytes"):
        await fetch(client, repository, 1000, 2000)


async def test_long_chunked_range_is_an_error(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """More than was announced is not given out."""

    def lengthen(reply: Reply) -> None:
        reply.length, reply.body = -1, reply.body + b"x"

    registry.change("^GET", lengthen)
    client = await connect(registry)
    with pytest.raises(TransportError, match="more than it announced"):
        await fetch(client, repository, 1000, 2000)


async def test_stall_is_an_error_of_its_own(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """No byte for the stall time ends the body; no total limit does."""
    gate = asyncio.Event()
    registry.stall("^GET", gate, at=1000)
    client = await connect(registry, transfer=TransferConfig(stall_timeout=0.1))
    with pytest.raises(TransportError, match=rf"{registry.name} stalled: no byte for 0\.1 s"):
        await fetch(client, repository)
    gate.set()


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
async def test_4b_14_encoding_of_a_blob_is_not_undone(
    registry: FakeRegistry, repository: Reference, connect: Connect, coding: str
) -> None:
    """A layer that is served with a Content-Encoding is still what its digest says (14)."""
    layer = gzip.compress(CONTENT)
    digest = Digest.parse(registry.add_blob("team/app", layer))
    registry.header("^GET", "Content-Encoding", coding)
    client = await connect(registry)
    async with client.fetch_blob(repository, digest) as body:
        content = b"".join([piece async for piece in body])

    assert layer == content


async def test_leaving_early_closes_the_connection(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """Who leaves a body does not wait for its rest, and the client can be used on."""
    gate = asyncio.Event()
    registry.stall("^GET", gate, at=1000)
    client = await connect(registry)
    async with client.fetch_blob(repository, DIGEST) as body:
        async for _ in body:
            break
    gate.set()

    assert CONTENT == (await fetch(client, repository))[2]


async def test_missing_blob(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """One line with digest and repository; exit code 2."""
    other = Digest.of(b"not there")
    client = await connect(registry)
    for act in (client.blob_size(repository, other), client.fetch_blob(repository, other)):
        with pytest.raises(BlobUnknown, match=f"{other} of {repository.name}"):
            if asyncio.iscoroutine(act):
                await act
            else:
                async with act:
                    pass


async def test_4b_17_web_page_is_not_a_blob(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """A log-in page with status 200 is refused before its bytes are given out."""
    registry.answer("^GET", 200, "<html>", Content_Type="text/html; charset=utf-8")
    client = await connect(registry)
    with pytest.raises(BadAnswer, match="web page"):
        await fetch(client, repository)


async def test_blob_size(registry: FakeRegistry, repository: Reference, connect: Connect) -> None:
    """HEAD tells the size; where there is no HEAD, one byte's Content-Range does."""
    client = await connect(registry)

    assert len(CONTENT) == await client.blob_size(repository, DIGEST)

    registry.answer("^HEAD", 405)

    assert len(CONTENT) == await client.blob_size(repository, DIGEST)
    assert 1 == registry.sent[str(DIGEST)]


# Redirects.


@pytest.fixture
def redirecting(registry: FakeRegistry, cdn: FakeCdn) -> Reference:
    registry.users = {"ann": "secret-word"}
    registry.cdn = cdn
    registry.add_blob("team/app", CONTENT)
    return Reference(registry.name, "team/app")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_4b_08_redirect_drops_the_login_and_keeps_the_query(
    registry: FakeRegistry, cdn: FakeCdn, redirecting: Reference, connect: Connect, status: int
) -> None:
    """Another origin sees neither login nor cookie, and its signed query to the last byte (8)."""
    registry.change(
        "^GET /v2/team",
        lambda reply: setattr(reply, "status", status) if reply.status == 307 else None,
    )
    client = await connect(registry, Login("ann", Secret("secret-word")))
    async with client.fetch_blob(redirecting, DIGEST, 10, 20) as body:
        content = b"".join([piece async for piece in body])

        assert (10, CONTENT[10:20], cdn.name) == (body.start, content, body.source)
    assert [f"GET /data/{DIGEST}?{cdn.signature}"] == cdn.lines()
    assert "bytes=10-19" == cdn.requests[0].headers["Range"]


async def test_4b_08_expired_redirect_is_asked_for_anew(
    registry: FakeRegistry, cdn: FakeCdn, redirecting: Reference, connect: Connect
) -> None:
    """A presigned URL that has expired sends us back to the registry for a new one (8)."""
    cdn.answer("^GET", 403, "<Error>Request has expired</Error>")
    client = await connect(registry, Login("ann", Secret("secret-word")))

    assert CONTENT == (await fetch(client, redirecting))[2]
    assert 2 == len(cdn.requests)


async def test_4b_08_redirect_target_that_refuses_is_named(
    registry: FakeRegistry, cdn: FakeCdn, redirecting: Reference, connect: Connect
) -> None:
    """When the second URL is refused too, the line names both hosts and blames no password."""
    cdn.answer("^GET", 403, "no", times=None)
    client = await connect(registry, Login("ann", Secret("secret-word")))
    with pytest.raises(Denied, match=f"{registry.name} sends us to {cdn.name}"):
        await fetch(client, redirecting)

    assert 2 == len(cdn.requests)


async def test_4b_08_head_refused_by_redirect_target(
    registry: FakeRegistry, cdn: FakeCdn, redirecting: Reference, connect: Connect
) -> None:
    """Presigned URLs often refuse a HEAD: the size comes from a range (8)."""
    cdn.answer("^HEAD", 403, times=None)
    client = await connect(registry, Login("ann", Secret("secret-word")))

    assert len(CONTENT) == await client.blob_size(redirecting, DIGEST)
    assert not await client.has_blob(redirecting, DIGEST)


async def test_4b_08_endless_redirect(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """Ten redirects and no more."""
    registry.answer("^GET", 307, times=None, Location=BLOB)
    client = await connect(registry)
    with pytest.raises(BadAnswer, match=f"{registry.name} redirects without end"):
        await fetch(client, repository)

    assert 11 == len(registry.requests)


@pytest.mark.parametrize("location", ["ftp://example.org/x", "http://["])
async def test_redirect_to_nowhere(
    registry: FakeRegistry, repository: Reference, connect: Connect, location: str
) -> None:
    """What is not an http URL is not followed."""
    registry.answer("^GET", 307, Location=location)
    client = await connect(registry)
    with pytest.raises((BadAnswer, TransportError)):
        await fetch(client, repository)


async def test_4b_08_login_stays_on_its_origin(
    registry: FakeRegistry, redirecting: Reference, connect: Connect
) -> None:
    """A redirect within the registry keeps the login."""
    registry.cdn = None
    registry.answer("^GET /v2/team/app/blobs", 307, times=None, Location=f"/moved{BLOB}")
    registry.faults[-1].pattern = "^GET /v2/team"
    registry.answer("^GET /moved", 200, CONTENT)
    client = await connect(registry, Login("ann", Secret("secret-word")))
    await client.ping()

    assert CONTENT == (await fetch(client, redirecting))[2]
    assert "Authorization" in registry.requests[-1].headers
