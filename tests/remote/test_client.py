"""Resolving names and fetching manifests, from registries that behave and that do not."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json

import aiohttp
import pytest

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch
from registryd.config import RegistryConfig
from registryd.oci.errors import (
    BadAnswer,
    ManifestInvalid,
    ManifestUnknown,
    RegistryError,
)
from registryd.oci.media_types import ACCEPT, OCI_MANIFEST
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.secrets import Login, Secret
from tests.fakes.registry import FakeRegistry
from tests.remote.conftest import Connect, OpenRemotes

MANIFESTS = "/v2/team/app/manifests"


def described(registry: FakeRegistry, image: Reference) -> Descriptor:
    media_type, raw = registry.repositories["team/app"].manifests["1.0"]
    return Descriptor.of(media_type, raw)


async def test_a_tag_is_resolved_by_head(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """A HEAD is enough, and costs nothing where GETs of manifests are counted (2.1)."""
    client = await connect(registry)

    assert described(registry, image) == await client.resolve(image)
    assert [f"HEAD {MANIFESTS}/1.0"] == registry.lines()


async def test_4b_13_one_accept_header_lists_all_types(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """All types in one comma-joined header; nothing that is hashed is encoded (13, 14)."""
    client = await connect(registry)
    await client.fetch_manifest(image)
    headers = registry.requests[-1].headers

    assert [ACCEPT] == headers.getall("Accept")
    assert ["identity"] == headers.getall("Accept-Encoding")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Docker-Content-Digest", None),
        ("Docker-Content-Digest", "md5:0123"),
        ("Content-Type", "text/plain"),
        ("Content-Encoding", "gzip"),
    ],
)
async def test_4b_11_head_that_does_not_tell_all_is_followed_by_get(
    registry: FakeRegistry, image: Reference, connect: Connect, name: str, value: str | None
) -> None:
    """Without digest, type or true length, the body is what decides (11, 12)."""
    registry.header("^HEAD", name, value)
    client = await connect(registry)

    assert described(registry, image) == await client.resolve(image)
    assert [f"HEAD {MANIFESTS}/1.0", f"GET {MANIFESTS}/1.0"] == registry.lines()


@pytest.mark.parametrize("status", [400, 405, 501])
async def test_4b_11_refused_head_is_followed_by_get(
    registry: FakeRegistry, image: Reference, connect: Connect, status: int
) -> None:
    """Some proxies know no HEAD (11)."""
    registry.answer("^HEAD", status)
    client = await connect(registry)

    assert described(registry, image) == await client.resolve(image)


async def test_4b_11_head_without_length_is_followed_by_get(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """A descriptor has a size, so a HEAD without one is not enough (11)."""
    registry.announce("^HEAD", -1)
    client = await connect(registry)

    assert described(registry, image) == await client.resolve(image)


async def test_4b_11_head_of_another_digest_than_asked_is_checked(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """Asked by digest, the digest decides and not the header (11)."""
    expected = described(registry, image)
    registry.header("^HEAD", "Docker-Content-Digest", str(Digest.of(b"other")))
    client = await connect(registry)

    assert expected == await client.resolve(image.with_digest(expected.digest))


async def test_a_manifest_is_proven_by_the_digest_asked(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """Bytes that do not hash to the digest are refused, and the error names both sides."""
    asked = image.with_digest(described(registry, image).digest)
    registry.change("^GET", lambda reply: setattr(reply, "body", reply.body + b" "))
    client = await connect(registry)

    with pytest.raises(DigestMismatch, match=f"{asked} from {registry.name}"):
        await client.fetch_manifest(asked)


async def test_a_missing_tag_is_unknown(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """One line that names registry and reference; exit code 2."""
    client = await connect(registry)
    missing = image.with_tag("nope")
    for act in (client.resolve, client.fetch_manifest):
        with pytest.raises(ManifestUnknown, match=f"cannot find {missing}: ") as caught:
            await act(missing)

        assert 2 == caught.value.exit_code
        assert "\n" not in str(caught.value)


async def test_4b_12_content_type_with_parameters_or_generic(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """The body's mediaType decides where the header is generic (12)."""
    client = await connect(registry)
    for value in (f"{OCI_MANIFEST}; charset=utf-8", "text/plain", None):
        registry.faults.clear()
        registry.header("^GET", "Content-Type", value)

        assert OCI_MANIFEST == (await client.fetch_manifest(image)).media_type


async def test_4b_12_contradicting_types_are_refused(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """A manifest that is sent as an index could be two things to two readers (12)."""
    registry.header("^GET", "Content-Type", "application/vnd.oci.image.index.v1+json")
    client = await connect(registry)

    with pytest.raises(ManifestInvalid, match=r"team/app:1\.0 from"):
        await client.fetch_manifest(image)


async def test_schema_1_is_refused_clearly(registry: FakeRegistry, connect: Connect) -> None:
    """Old images are named as such (DESIGN 4)."""
    raw = json.dumps({"schemaVersion": 1, "name": "old", "fsLayers": []}).encode()
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    registry.add_manifest("team/app", "old", raw, kind)
    client = await connect(registry)

    with pytest.raises(ManifestInvalid, match="schema 1"):
        await client.resolve(Reference(registry.name, "team/app", "old"))


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
async def test_4b_14_encoding_added_on_the_way_is_undone(
    registry: FakeRegistry, image: Reference, connect: Connect, coding: str
) -> None:
    """Raw bytes first, then decoded ones (14)."""
    expected = described(registry, image)

    def encode(reply: object) -> None:
        reply.body = gzip.compress(reply.body)  # type: ignore[attr-defined]

    registry.change("^GET", encode)
    registry.header("^GET", "Content-Encoding", coding)
    client = await connect(registry)
    document = await client.fetch_manifest(image.with_digest(expected.digest))

    assert expected == document.descriptor


async def test_4b_14_encoding_that_is_only_claimed_is_ignored(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """Some servers say Content-Encoding and send the bytes as they are (14)."""
    registry.header("^GET", "Content-Encoding", "x-gzip")
    client = await connect(registry)

    assert described(registry, image) == (await client.fetch_manifest(image)).descriptor


async def test_4b_22_manifest_has_a_limit(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """4 MiB and no more are read (22)."""
    registry.change("^GET", lambda reply: setattr(reply, "body", b" " * (4 * 2**20 + 1)))
    client = await connect(registry)

    with pytest.raises(BadAnswer, match="more than 4194304 bytes"):
        await client.fetch_manifest(image)


async def test_4b_17_web_page_is_not_a_registry(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """200 with HTML to everything means: not a registry (17)."""
    registry.answer("", 200, "<html>Welcome</html>", times=None, Content_Type="text/html")
    client = await connect(registry)
    for act in (client.resolve(image), client.fetch_manifest(image), client.ping()):
        with pytest.raises(BadAnswer, match=f"{registry.name} answers with a web page"):
            await act


async def test_a_manifest_that_breaks_off_is_a_transport_error(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """A body cut short is no manifest."""
    registry.cut("^GET", 10)
    client = await connect(registry)

    with pytest.raises(TransportError, match=f"{registry.name} broke off"):
        await client.fetch_manifest(image)


async def test_garbage_in_a_manifest_ends_it(open_remotes: OpenRemotes) -> None:
    """What comes where a chunk should begin, and is none, makes nobody wait for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n" % (400_000, b" " * 400_000))
        await writer.drain()
        writer.write(b"zzz not a chunk\r\n" + b"\xff" * 100)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        name = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        remotes = await open_remotes({name: RegistryConfig(plain_http=True)})
        async with asyncio.timeout(5):
            with pytest.raises(TransportError, match=f"{name} broke off"):
                await remotes.remote(name).fetch_manifest(Reference(name, "team/app", "1.0"))


async def test_a_connection_keeps_nothing_of_its_bodies(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """One that lives for long holds no more after many bodies than after a few."""
    content = b"layer " * 1_000_000
    digest = Digest.parse(registry.add_blob("team/app", content))
    client = await connect(registry)

    async def bodies(count: int) -> int:
        for _ in range(count):
            async with client.fetch_blob(image, digest) as body:
                async for _ in body:
                    pass
        gc.collect()
        return sum(isinstance(each, aiohttp.StreamReader) for each in gc.get_objects())

    assert await bodies(2) == await bodies(20)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"errors":[{"code":"404","message":"Not found"}]}', "application/json"),
        ('{"details":"object not found"}', "application/json"),
        ("404 page not found", "text/plain"),
        ("<html><title>Nothing here</title></html>", "text/html"),
        ("", "text/plain"),
        ('{"errors": null}', "application/json"),
    ],
)
async def test_4b_18_any_error_body_is_one_line(
    registry: FakeRegistry, image: Reference, connect: Connect, body: str, kind: str
) -> None:
    """Error bodies of all shapes are understood, whatever they are (18)."""
    registry.answer("^GET", 404, body, Content_Type=kind)
    client = await connect(registry)

    with pytest.raises(ManifestUnknown) as caught:
        await client.fetch_manifest(image)

    assert "\n" not in str(caught.value)


async def test_a_server_error_is_told_after_the_last_try(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """Five tries, then what the registry said."""
    registry.answer("^GET", 500, '{"errors":[{"code":"UNKNOWN","message":"disk"}]}', times=None)
    client = await connect(registry)

    with pytest.raises(RegistryError, match=r"disk.*500"):
        await client.fetch_manifest(image)

    assert 5 == len(registry.requests)


@pytest.mark.parametrize("status", [429, 503])
async def test_head_that_is_too_much_is_not_followed_by_get(
    registry: FakeRegistry, image: Reference, connect: Connect, status: int
) -> None:
    """Where HEADs are too many, a GET is one more."""
    registry.answer("^HEAD", status, times=None)
    client = await connect(registry)
    with pytest.raises(RegistryError):
        await client.resolve(image)

    assert {f"HEAD {MANIFESTS}/1.0"} == set(registry.lines())


async def test_4b_17_ping(registry: FakeRegistry, connect: Connect) -> None:
    """A registry answers to /v2/; no version header is required, 404 proves nothing (17)."""
    client = await connect(registry)
    await client.ping()
    registry.answer("GET /v2/$", 404, "404 page not found", Content_Type="text/plain")
    await client.ping()

    assert ["GET /v2/"] * 2 == registry.lines()


async def test_4b_17_ping_follows_a_move(registry: FakeRegistry, connect: Connect) -> None:
    """Some registries redirect the ping, from http to https (17)."""
    registry.answer("GET /v2/$", 301, Location=f"{registry.url}/moved/v2/")
    registry.answer("GET /moved/v2/$", 200, "{}", Content_Type="application/json")
    client = await connect(registry)
    await client.ping()

    assert ["GET /v2/", "GET /moved/v2/"] == registry.lines()


async def test_an_endpoint_with_a_prefix(registry: FakeRegistry, connect: Connect) -> None:
    """The API may be below a path."""
    registry.answer("GET /hub/v2/$", 200, "{}", Content_Type="application/json")
    client = await connect(registry, config=RegistryConfig(endpoint=f"{registry.url}/hub/"))
    await client.ping()

    assert ["GET /hub/v2/"] == registry.lines()


async def test_no_cookie_is_sent_back(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """A cookie would switch some registries to sessions with CSRF checks (2.21)."""
    registry.header("", "Set-Cookie", "sid=1; Path=/")
    # By name: cookies of bare addresses are not kept by anyone.
    endpoint = f"http://localhost:{registry.port}"
    client = await connect(registry, config=RegistryConfig(endpoint=endpoint))
    await client.fetch_manifest(image)
    await client.fetch_manifest(image)

    assert [] == [seen for seen in registry.requests if "Cookie" in seen.headers]


async def test_a_login_is_not_sent_unasked(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """An open registry never sees the credentials that we have for it."""
    client = await connect(registry, Login("ann", Secret("secret-word")))
    await client.resolve(image)

    assert "Authorization" not in registry.requests[-1].headers
