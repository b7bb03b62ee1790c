"""How blobs go out to hosts that are known to be particular, and what is learned of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cache.content import Descriptor
from registryd.config import RegistryConfig
from registryd.oci.errors import RegistryError, UploadInvalid
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.remote.upload_rules import CHUNK, MIB, Learned, chunk_size, rule_for
from tests.fakes.bodies import Opener
from tests.fakes.breaking import Quirks, UploadRegistry
from tests.remote.conftest import OpenRemotes

CONTENT = bytes(range(256)) * 4096 * 20  # 20 MiB: two chunks of the usual size
BLOB = Descriptor.of("application/octet-stream", CONTENT)

At = Callable[[str], Awaitable[RegistryClient]]


@pytest.fixture
async def registry() -> AsyncIterator[UploadRegistry]:
    async with UploadRegistry().serve() as server:
        yield server


@pytest.fixture
def at(registry: UploadRegistry, open_remotes: OpenRemotes) -> At:
    """The registry by another name."""

    async def connect(name: str) -> RegistryClient:
        remotes = await open_remotes({name: RegistryConfig(endpoint=registry.url)})
        client: RegistryClient = remotes.remote(name)  # type: ignore[assignment]
        return client

    return connect


async def push(client: RegistryClient, opener: Opener | None = None) -> None:
    await client.push_blob(Reference(client.registry, "team/app"), BLOB, opener or Opener(CONTENT))


def ranges(registry: UploadRegistry) -> list[str]:
    return [seen.headers["Content-Range"] for seen in registry.asked("^PATCH")]


@pytest.mark.parametrize(
    ("host", "chunks", "size", "tells"),
    [
        ("registry.test", True, CHUNK, True),
        ("registry.test:5000", True, CHUNK, True),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", True, CHUNK, False),
        ("europe-docker.pkg.dev", False, CHUNK, True),
        ("eu.gcr.io", False, CHUNK, True),
        ("gcr.io", False, CHUNK, True),
        ("ghcr.io", True, 4 * MIB, True),
        ("not-ghcr.io", True, CHUNK, True),
        ("mine.azurecr.io", True, CHUNK, True),
    ],
)
def test_rule_of_a_host(host: str, chunks: bool, size: int, tells: bool) -> None:
    """What is known of hosts, by their names and not by what ends like them."""
    rule = rule_for(host)

    assert (chunks, size, tells) == (rule.chunks, chunk_size(rule, Learned(), 0), rule.tells)


def test_size_of_a_chunk() -> None:
    """The registry's own word wins, then what was learned, then what is known."""
    learned = Learned()
    ecr = rule_for("1.dkr.ecr.us-east-1.amazonaws.com")

    assert 20 * MIB == chunk_size(rule_for("ghcr.io"), learned, 20 * MIB)
    assert learned.refused_chunk(16 * MIB)
    assert 8 * MIB == chunk_size(rule_for("x.test"), learned, 0)
    assert learned.refused_chunk(8 * MIB)
    assert 5 * MIB == chunk_size(ecr, learned, 0)
    assert not Learned().refused_chunk(100_000)


async def test_parts_of_five_mib_answered_with_201(registry: UploadRegistry, at: At) -> None:
    """ECR: no small part but the last, PATCH answers 201, its Range and its status say nothing."""
    registry.quirks = Quirks(
        whole_most=MIB, chunk_least=5 * MIB, patched=201, range_stays=True, tells=False
    )
    client = await at("1.dkr.ecr.us-east-1.amazonaws.com")
    await push(client)

    assert CONTENT == registry.blob("team/app", BLOB.digest)
    assert [f"0-{CHUNK - 1}", f"{CHUNK}-{len(CONTENT) - 1}"] == ranges(registry)
    assert [] == registry.lines("^GET")


async def test_broken_part_where_nothing_is_told(registry: UploadRegistry, at: At) -> None:
    """Where a session does not say how far it is, what was answered counts: that part again."""
    registry.quirks = Quirks(whole_most=MIB, keeps=False, tells=False, patched=201)
    client = await at("1.dkr.ecr.us-east-1.amazonaws.com")
    registry.break_at = len(CONTENT) + CHUNK + MIB  # the refused PUT, a chunk, and a bit
    await push(client)

    last = f"{CHUNK}-{len(CONTENT) - 1}"
    assert [f"0-{CHUNK - 1}", last, last] == ranges(registry)
    assert CONTENT == registry.blob("team/app", BLOB.digest)


async def test_chunks_of_four_mib(registry: UploadRegistry, at: At) -> None:
    """GHCR refuses larger chunks with 416."""
    registry.quirks = Quirks(whole_most=MIB, chunk_most=4 * MIB)
    await push(await at("ghcr.io"))

    assert 5 == len(ranges(registry))
    assert CONTENT == registry.blob("team/app", BLOB.digest)


@pytest.mark.parametrize("status", [413, 416])
async def test_chunks_become_smaller(registry: UploadRegistry, at: At, status: int) -> None:
    """A host that nobody knows and finds chunks too long gets smaller ones; it is remembered."""
    registry.quirks = Quirks(whole_most=MIB, chunk_most=5 * MIB, too_large=status)
    client = await at("registry.test")
    await push(client)
    first = len(ranges(registry))
    registry.repositories.clear()
    await push(client)

    assert (2 + 5, 5) == (first, len(ranges(registry)) - first)
    assert CONTENT == registry.blob("team/app", BLOB.digest)


async def test_chunk_that_is_never_small_enough(registry: UploadRegistry, at: At) -> None:
    """That ends, as the registry's own refusal."""
    registry.quirks = Quirks(whole_most=1, chunk_most=1)
    with pytest.raises(UploadInvalid, match="cannot push blob"):
        await push(await at("registry.test"))


@pytest.mark.parametrize("host", ["europe-docker.pkg.dev", "eu.gcr.io"])
async def test_never_in_chunks(registry: UploadRegistry, at: At, host: str) -> None:
    """GAR and GCR take no chunks: what was broken off is sent anew in one piece."""
    registry.quirks = Quirks(no_chunks=400)
    client = await at(host)
    registry.break_at = 10 * MIB
    opener = Opener(CONTENT)
    await push(client, opener)

    assert ["POST", "PUT", "DELETE", "POST", "PUT"] == [s.method for s in registry.requests]
    assert (CONTENT, 2, 2) == (
        registry.blob("team/app", BLOB.digest), opener.opened, opener.closed
    )  # fmt: skip

    registry.repositories.clear()
    registry.quirks.whole_most = MIB
    with pytest.raises(RegistryError, match="413"):
        await push(client)

    assert [] == registry.lines("PATCH")


async def test_what_was_kept_is_not_sent_again(registry: UploadRegistry, at: At) -> None:
    """One PUT that breaks off goes on with PATCH at the byte that the registry has."""
    client = await at("registry.test")
    registry.break_at = 10 * MIB
    await push(client)

    assert ["POST", "PUT", "GET", "PATCH", "PUT"] == [s.method for s in registry.requests]
    assert [f"{10 * MIB}-{len(CONTENT) - 1}"] == ranges(registry)
    assert (CONTENT, len(CONTENT)) == (registry.blob("team/app", BLOB.digest), registry.received)


async def test_a_blob_in_chunks_is_read_once(registry: UploadRegistry, at: At) -> None:
    """Chunks in a row come from one open body; a break in one costs no more than the rest."""
    registry.quirks = Quirks(whole_most=MIB)
    client = await at("registry.test")
    await push(client)
    registry.repositories.clear()
    opener = Opener(CONTENT)
    await push(client, opener)

    assert (1, 1) == (opener.opened, opener.closed)

    registry.repositories.clear()
    before = registry.received
    registry.break_at = before + CHUNK + MIB
    opener = Opener(CONTENT)
    await push(client, opener)

    assert (2, 2) == (opener.opened, opener.closed)
    assert (CONTENT, before + len(CONTENT)) == (
        registry.blob("team/app", BLOB.digest), registry.received
    )  # fmt: skip


async def test_what_was_kept_was_wrong(registry: UploadRegistry, at: At) -> None:
    """A blob in two goes whose digest comes out wrong is sent once more, whole."""
    client = await at("registry.test")
    registry.break_at = 10 * MIB

    def spoil(_: object) -> None:
        for session, held in registry.sessions.held.items():
            registry.sessions.held[session] = b"?" + held[1:]

    registry.change("^GET", spoil, times=1)
    await push(client)

    assert CONTENT == registry.blob("team/app", BLOB.digest)
    assert 2 == len(registry.lines("^POST"))
