"""Answers: rules 7, 8 and 11 to 15 of what registries do (4b), against a scripted one."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch
from registryd.config import TransferConfig
from registryd.oci.errors import BadAnswer, ManifestUnknown
from registryd.oci.media_types import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
)
from registryd.oci.reference import Reference
from registryd.remote.token_server import TOKEN_BODY_LIMIT
from registryd.secrets import Login, Secret
from tests.fakes.bodies import Opener
from tests.fakes.registry import FakeCdn, FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect

ANN = Login("ann", Secret("secret-word"), origin="a test")
CONTENT = bytes(range(256)) * 100
DIGEST = Digest.of(CONTENT)
BLOB = Descriptor("application/octet-stream", DIGEST, len(CONTENT))
UPLOADS = "/v2/team/app/blobs/uploads/"


def described(registry: FakeRegistry) -> Descriptor:
    return Descriptor.of(*registry.repositories["team/app"].manifests["1.0"])


# 7: Location.


@pytest.mark.parametrize(
    "location",
    [
        "{path}?_state=a%2Fb%2Bc%3D%3D",
        "{url}{path}?x=%7e+%20",
        "//{authority}{path}",
        "{session}?_state=a%2Fb",
        "./{session}",
        "{other}{path}?X-Amz-Signature=a%2Fb",
    ],
)
async def test_4b_07_location_of_an_upload(
    registry: FakeRegistry, connect: Connect, location: str
) -> None:
    """Absolute, relative, without scheme, on another host; its query is kept and added to."""
    registry.users = {"ann": "secret-word"}
    registry.traits = registry.traits.but("uploads", location=location)
    client = await connect(registry, ANN)
    await client.push_blob(Reference(registry.name, "team/app"), BLOB, Opener(CONTENT))
    put = registry.requests[-1]
    query = location.partition("?")[2]

    assert CONTENT == registry.repositories["team/app"].blobs[str(DIGEST)]
    assert f"?{query}&".removesuffix("?&") in put.path
    assert put.path.endswith(f"digest=sha256%3A{DIGEST.hex}")
    assert ("{other}" not in location) == ("Authorization" in put.headers)


async def test_4b_07_location_is_relative_to_who_answered(
    registry: FakeRegistry, connect: Connect
) -> None:
    """After a redirect, a relative Location is one of the URL that the redirect led to."""
    registry.answer(f"^POST {UPLOADS}", 307, Location=f"/moved{UPLOADS}")
    registry.answer("^POST /moved", 202, Location="s1?_state=x%2F")
    registry.answer("^PUT /moved", 201)
    client = await connect(registry)
    await client.push_blob(Reference(registry.name, "team/app"), BLOB, Opener(CONTENT))

    assert [f"PUT /moved{UPLOADS}s1?_state=x%2F&digest=sha256%3A{DIGEST.hex}"] == registry.lines(
        "^PUT"
    )


# 8: redirects.


@pytest.fixture
def redirecting(registry: FakeRegistry, cdn: FakeCdn) -> Reference:
    registry.users, registry.cdn = {"ann": "secret-word"}, cdn
    registry.add_blob("team/app", CONTENT)
    return Reference(registry.name, "team/app")


@pytest.mark.parametrize("head", [200, 403, 405])
async def test_4b_08_presigned_urls_for_one_use(
    registry: FakeRegistry, cdn: FakeCdn, redirecting: Reference, connect: Connect, head: int
) -> None:
    """Each stretch asks the registry for a URL of its own; a HEAD that is refused is passed by."""
    registry.traits = registry.traits.but("blobs", redirect=302)
    cdn.uses, cdn.head = 1, head
    client = await connect(registry, ANN)
    got = b""

    assert len(CONTENT) == await client.blob_size(redirecting, DIGEST)

    for start in range(0, len(CONTENT), 10_000):
        async with client.fetch_blob(redirecting, DIGEST, start, start + 10_000) as body:
            got += b"".join([piece async for piece in body])

    assert CONTENT == got
    assert [] == [seen for seen in cdn.requests if "Authorization" in seen.headers]


async def test_4b_08_url_that_expired_between_registry_and_host(
    cdn: FakeCdn, redirecting: Reference, connect: Connect, registry: FakeRegistry
) -> None:
    """A URL that is used up when we come is asked for anew, once."""
    registry.header("^GET /v2/team", "Location", f"{cdn.url}/data/{DIGEST}?sig=old", times=2)
    client = await connect(registry, ANN)
    async with client.fetch_blob(redirecting, DIGEST, 5, 10) as body:
        assert CONTENT[5:10] == b"".join([piece async for piece in body])


# 11, 12: digests and types.


@pytest.mark.parametrize("length", [False, True])
async def test_4b_11_no_digest_and_no_length(
    registry: FakeRegistry, image: Reference, connect: Connect, length: bool
) -> None:
    """Without Docker-Content-Digest the body is hashed; a digest asked for is always compared."""
    registry.traits = registry.traits.but("manifests", says_digest=False, head_says_length=length)
    client = await connect(registry)
    expected = described(registry)

    assert expected == await client.resolve(image)
    assert expected == await client.resolve(image.with_digest(expected.digest))


async def test_4b_11_digest_of_another_representation(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """The header of a GET may be that of schema 1, or of what was compressed: the body decides."""
    registry.header("^GET", "Docker-Content-Digest", str(Digest.of(b"other")))
    client = await connect(registry)

    assert described(registry) == (await client.fetch_manifest(image)).descriptor


async def test_4b_11_wrong_byte(registry: FakeRegistry, image: Reference, connect: Connect) -> None:
    """Asked by digest, one wrong byte is seen, whatever the header says."""
    asked = image.with_digest(described(registry).digest)
    registry.spoil("^GET", at=-2)
    client = await connect(registry)
    with pytest.raises(DigestMismatch, match=registry.name):
        await client.fetch_manifest(asked)


@pytest.mark.parametrize("sent", ["", "application/octet-stream", "application/json", "x"])
async def test_4b_12_any_generic_type(
    registry: FakeRegistry, image: Reference, connect: Connect, sent: str
) -> None:
    """A type that says nothing leaves it to the body, by HEAD and by GET."""
    registry.header("", "Content-Type", sent)
    client = await connect(registry)

    assert OCI_MANIFEST == (await client.resolve(image)).media_type


# 13: Accept.


async def test_4b_13_schema_1_is_never_asked_for(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """All four types in one header, by HEAD and by GET; no schema 1 from who would give it."""
    registry.traits = registry.traits.but("manifests", schema1=True, head=405)
    client = await connect(registry)
    await client.resolve(image)
    for seen in registry.requests:
        sent = seen.headers.getall("Accept")

        assert [", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))] == sent
        assert DOCKER_SCHEMA1_SIGNED not in sent[0]


# 14: compression.


async def test_4b_14_gzip_on_top_of_everything(
    guarded: FakeRegistry, tokens: FakeTokenServer, connect: Connect
) -> None:
    """A proxy that compresses what we asked to be left alone: tokens, lists, manifests, errors."""
    guarded.add_image("team/app", "1.0", CONTENT)
    image = Reference(guarded.name, "team/app", "1.0")
    for server in (guarded, tokens):
        server.compress("^(GET|POST)")
    client = await connect(guarded, ANN)
    await client.ping()

    assert described(guarded) == await client.resolve(image)
    assert described(guarded) == (await client.fetch_manifest(image)).descriptor
    assert ["1.0"] == await client.tags(image)
    with pytest.raises(ManifestUnknown, match="manifest unknown"):
        await client.fetch_manifest(image.with_tag("none"))
    for seen in (*guarded.requests, *tokens.requests):
        assert ["identity"] == seen.headers.getall("Accept-Encoding")


async def test_4b_14_what_is_no_gzip(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """A coding that is claimed and cannot be undone leaves the bytes as they came."""
    registry.answer("^GET", 200, b"\x1f\x8bnonsense", Content_Encoding="gzip")
    client = await connect(registry)
    with pytest.raises(BadAnswer, match=registry.name):
        await client.tags(image)
    registry.answer("^GET", 200, b'{"tags":["a"]}', Content_Encoding="gzip")

    assert ["a"] == await client.tags(image)


async def test_4b_14_more_than_may_be_read(
    guarded: FakeRegistry, tokens: FakeTokenServer, connect: Connect
) -> None:
    """What is small on the wire and large in memory is refused by what it would be in memory."""
    large = gzip.compress(b'{"token":"t"' + b" " * TOKEN_BODY_LIMIT + b"}")
    tokens.answer("^GET", 200, large, times=None, Content_Encoding="gzip")
    client = await connect(guarded)
    with pytest.raises(BadAnswer, match=f"more than {TOKEN_BODY_LIMIT} bytes"):
        await client.ping()


# 15: ranges.


@pytest.mark.parametrize("ways", ["right", "ignored", "wrong", "unitless", "refused"])
async def test_4b_15_every_way_of_ranges(
    registry: FakeRegistry, connect: Connect, ways: str
) -> None:
    """Stretches join to the blob whatever the registry makes of ranges; one range a request."""
    registry.add_blob("team/app", CONTENT)
    registry.traits = registry.traits.but("blobs", ranges=ways, says_length=ways == "right")
    repository = Reference(registry.name, "team/app")
    client = await connect(registry)
    got = bytearray()
    while len(got) < len(CONTENT):
        async with client.fetch_blob(repository, DIGEST, len(got), len(got) + 9000) as body:
            del got[body.start :]
            got += b"".join([piece async for piece in body])

    assert CONTENT == got
    assert not any("," in seen.headers.get("Range", "") for seen in registry.requests)


async def test_4b_15_slow_bytes_are_no_stall(registry: FakeRegistry, connect: Connect) -> None:
    """Bytes that come in dribbles make a blob, however long that takes in all."""
    registry.add_blob("team/app", CONTENT)
    dribbles = []

    async def pace() -> None:
        dribbles.append(await asyncio.sleep(0))

    registry.slow("^GET", pace, piece=100)
    client = await connect(registry, transfer=TransferConfig(stall_timeout=5.0))
    async with client.fetch_blob(Reference(registry.name, "team/app"), DIGEST, 600) as body:
        assert CONTENT[600:] == b"".join([piece async for piece in body])

    assert 250 == len(dribbles)
