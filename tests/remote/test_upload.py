"""Pushing blobs and manifests, to registries that take them and to those that make it hard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from cache.content import Descriptor, Digest
from cache.errors import SizeMismatch
from registryd.config import TransferConfig
from registryd.oci.errors import (
    BadAnswer,
    RateLimited,
    RegistryError,
    UploadInvalid,
)
from registryd.oci.reference import Reference
from registryd.ports import Body, TransportError
from registryd.remote import upload_rules
from registryd.secrets import Login, Secret
from tests.fakes.bodies import HeldBody, Opener
from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect

CONTENT = b"0123456789abcdef" * 20_000
BLOB = Descriptor.of("application/octet-stream", CONTENT)
UPLOADS = "/v2/team/app/blobs/uploads/"


@pytest.fixture
def repository(registry: FakeRegistry) -> Reference:
    return Reference(registry.name, "team/app")


def held(registry: FakeRegistry) -> bytes | None:
    found = registry.repositories.get("team/app")
    return None if found is None else found.blobs.get(str(BLOB.digest))


def methods(registry: FakeRegistry) -> list[str]:
    return [seen.method for seen in registry.requests]


async def test_post_and_one_put(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """A blob is one POST and one PUT with its length; the query of Location stays as it was (7)."""
    client = await connect(registry)
    opener = Opener(CONTENT)
    await client.push_blob(repository, BLOB, opener)
    put = registry.requests[-1]

    assert CONTENT == held(registry)
    assert ["POST", "PUT"] == methods(registry)
    assert put.path.endswith(f"?_state=a%2Fb%2Bc%3D%3D&digest=sha256%3A{BLOB.digest.hex}")
    assert str(len(CONTENT)) == put.headers["Content-Length"]
    assert "Transfer-Encoding" not in put.headers
    assert "application/octet-stream" == put.headers["Content-Type"]
    assert (1, 1) == (opener.opened, opener.closed)


async def test_empty_blob(registry: FakeRegistry, repository: Reference, connect: Connect) -> None:
    """A blob may have no bytes."""
    client = await connect(registry)
    await client.push_blob(repository, Descriptor.of("x", b""), Opener(b""))

    assert b"" == registry.repositories["team/app"].blobs[str(Digest.of(b""))]


@pytest.mark.parametrize(
    "location",
    [
        "http://{host}{path}",
        "//{host}{path}",
        "{path}",
    ],
)
async def test_4b_07_locations_of_uploads(
    registry: FakeRegistry, repository: Reference, connect: Connect, location: str
) -> None:
    """Location may be absolute, without scheme or relative (7)."""

    def change(reply: Reply) -> None:
        path = reply.headers["Location"]
        reply.headers["Location"] = location.format(host=registry.name, path=path)

    registry.change("^POST", change)
    client = await connect(registry)
    await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert CONTENT == held(registry)


async def test_4b_07_location_on_another_host_gets_no_login(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """An upload may go on elsewhere; the login does not go along (7)."""
    registry.users = {"ann": "secret-word"}
    async with FakeRegistry().serve() as other:
        other.answer("^PUT", 201)
        registry.header("^POST", "Location", f"{other.url}/up?a=%2F")
        client = await connect(registry, Login("ann", Secret("secret-word")))
        await client.push_blob(repository, BLOB, Opener(CONTENT))

        assert 1 == len(other.requests)
        assert "Authorization" not in other.requests[0].headers

        other.answer("^PUT", 401, times=None)
        with pytest.raises(RegistryError, match=f"sends us to {other.name}"):
            await client.push_blob(repository, BLOB, Opener(CONTENT))


async def test_no_location_is_a_bad_answer(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """Where the upload goes on must be said."""
    registry.header("^POST", "Location", None)
    client = await connect(registry, transfer=TransferConfig(attempts=1))
    with pytest.raises(BadAnswer, match="no Location"):
        await client.push_blob(repository, BLOB, Opener(CONTENT))


@pytest.mark.parametrize("status", [201, 204])
async def test_4b_10_success_has_several_statuses(
    registry: FakeRegistry, repository: Reference, connect: Connect, status: int
) -> None:
    """201 and 204 both end an upload (10)."""
    registry.answer("^PUT", status)
    client = await connect(registry)
    await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert ["POST", "PUT"] == methods(registry)


@pytest.mark.parametrize("status", [500, 503, 404, None])
async def test_failed_put_starts_again_with_a_session_of_its_own(
    registry: FakeRegistry, repository: Reference, connect: Connect, status: int | None
) -> None:
    """A session that failed and has nothing is given back, and the body opened again."""
    if status is None:
        registry.drop("^PUT")
    else:
        registry.answer("^PUT", status, '{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
    client = await connect(registry)
    opener = Opener(CONTENT)
    await client.push_blob(repository, BLOB, opener)

    assert CONTENT == held(registry)
    asked = [] if status == 404 else ["GET"]
    assert ["POST", "PUT", *asked, "DELETE", "POST", "PUT"] == methods(registry)
    assert (2, 2, 0) == (opener.opened, opener.closed, registry.open_uploads)


async def test_tries_end(registry: FakeRegistry, repository: Reference, connect: Connect) -> None:
    """After the last try, its error is what is told."""
    registry.answer("^PUT", 500, times=None)
    client = await connect(registry)
    with pytest.raises(RegistryError, match=f"cannot push blob {BLOB.digest}.*500"):
        await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert 5 == methods(registry).count("PUT")


async def test_too_many_requests_wait_for_everyone(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """429 with a Retry-After that is too long ends the push, as rate limited."""
    registry.answer("^PUT", 429, times=None, Retry_After="86400")
    client = await connect(registry)
    with pytest.raises(RateLimited):
        await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert 1 == methods(registry).count("PUT")


@pytest.mark.parametrize("status", [405, 413, 501])
async def test_chunks_where_one_piece_is_refused(
    registry: FakeRegistry, repository: Reference, connect: Connect, status: int
) -> None:
    """A registry that refuses one piece gets chunks; it is remembered, and chunks are in order."""
    registry.answer("^PUT", status)
    client = await connect(registry)
    await client.push_blob(repository, BLOB, Opener(CONTENT))
    await client.push_blob(repository, BLOB, Opener(CONTENT))
    ranges = [seen.headers["Content-Range"] for seen in registry.asked("^PATCH")]

    assert CONTENT == held(registry)
    assert [f"0-{len(CONTENT) - 1}"] * 2 == ranges
    assert ["POST", "PUT", "DELETE", *["POST", "PATCH", "PUT"] * 2] == methods(registry)


async def test_chunks_after_broken_connections(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """A proxy that cuts long bodies gives no status: after two breaks, chunks are tried."""
    registry.drop("^PUT", times=2)
    client = await connect(registry)
    await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert CONTENT == held(registry)
    assert 1 == methods(registry).count("PATCH")


async def test_4b_19_refused_chunk_goes_on_where_the_registry_is(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """416 to a chunk: ask how far the registry is, and send the rest from there (19)."""
    registry.answer("^PUT", 413)
    content = CONTENT * 60
    blob = Descriptor.of("x", content)

    def half(reply: Reply) -> None:
        session = next(iter(registry._uploads))
        registry._uploads[session] = content[: upload_rules.CHUNK // 2]
        reply.status = 416

    registry.change("^PATCH", half, times=1)
    client = await connect(registry)
    await client.push_blob(repository, blob, Opener(content))

    assert content == registry.repositories["team/app"].blobs[str(blob.digest)]
    assert f"{upload_rules.CHUNK // 2}-{len(content) - 1}" in [
        seen.headers["Content-Range"] for seen in registry.asked("^PATCH")
    ]


async def test_4b_19_least_chunk_of_the_registry(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """OCI-Chunk-Min-Length is honoured (19)."""
    registry.answer("^PUT", 413)
    content = CONTENT * 60
    blob = Descriptor.of("x", content)
    registry.header("^POST", "OCI-Chunk-Min-Length", str(upload_rules.CHUNK + 5))
    client = await connect(registry)
    await client.push_blob(repository, blob, Opener(content))

    assert f"0-{upload_rules.CHUNK + 4}" == registry.asked("^PATCH")[0].headers["Content-Range"]


async def test_wrong_bytes_are_refused(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """What the registry finds wrong is told, not tried again."""
    client = await connect(registry)
    with pytest.raises(UploadInvalid, match="did not match"):
        await client.push_blob(repository, BLOB, Opener(b"x" * len(CONTENT)))

    assert 1 == methods(registry).count("POST")


@pytest.mark.parametrize("length", [-1, 1])
@pytest.mark.parametrize("in_chunks", [False, True])
async def test_body_of_another_length_is_our_error(
    registry: FakeRegistry, repository: Reference, connect: Connect, length: int, in_chunks: bool
) -> None:
    """A source that gives less or more than it announced is named; nobody waits for the rest."""
    if in_chunks:
        registry.answer("^PUT", 413)
    client = await connect(registry)
    content = CONTENT[:-1] if length < 0 else CONTENT + b"x"
    with pytest.raises(SizeMismatch, match="memory gave"):
        await client.push_blob(repository, BLOB, Opener(content))

    assert held(registry) is None


async def test_failing_source_is_told_as_it_is(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """An error of the source is raised as it was, and its body is closed."""
    closed = []

    @asynccontextmanager
    async def broken() -> AsyncIterator[Body]:
        class Broken(HeldBody):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"some"
                raise SizeMismatch("the disk is gone")

        try:
            yield Broken(b"")
        finally:
            closed.append(True)

    client = await connect(registry)
    with pytest.raises(SizeMismatch, match="the disk is gone"):
        await client.push_blob(repository, BLOB, broken)

    assert [True] == closed


async def test_receiver_that_takes_nothing_is_a_stall(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """No byte taken for the stall time ends the try."""
    gate = asyncio.Event()
    content = bytes(40 * 2**20)
    respond: Callable[..., object] = registry.respond

    async def deaf(request: object) -> object:
        if request.method == "PUT":  # type: ignore[attr-defined]
            await gate.wait()
        return await respond(request)  # type: ignore[misc]

    registry.respond = deaf  # type: ignore[method-assign, assignment]
    settings = TransferConfig(stall_timeout=0.3, attempts=1)
    client = await connect(registry, transfer=settings)
    try:
        with pytest.raises(TransportError, match=r"stalled: no byte for 0\.3 s"):
            await client.push_blob(repository, Descriptor.of("x", content), Opener(content))
    finally:
        gate.set()


async def test_fresh_token_in_the_middle_of_a_push(
    guarded: FakeRegistry, tokens: FakeTokenServer, connect: Connect
) -> None:
    """401 to the PUT: a fresh token, and the body once more (8)."""
    client = await connect(guarded, Login("ann", Secret("secret-word")))
    repository = Reference(guarded.name, "team/app")
    guarded.answer(
        "^PUT", 401, WWW_Authenticate=f'Bearer realm="{tokens.url}/token",service="fake"'
    )
    opener = Opener(CONTENT)
    await client.push_blob(repository, BLOB, opener)

    assert CONTENT == held(guarded)
    assert ["POST", "POST", "PUT", "PUT"] == methods(guarded)
    assert {("repository:team/app:pull,push",)} == set(tokens.scopes)


async def test_push_without_access(
    guarded: FakeRegistry, tokens: FakeTokenServer, connect: Connect
) -> None:
    """A token without push is not enough; exit code 3."""
    client = await connect(guarded)
    with pytest.raises(RegistryError, match="registryctl login") as caught:
        await client.push_blob(Reference(guarded.name, "team/app"), BLOB, Opener(CONTENT))

    assert 3 == caught.value.exit_code
