"""What is pushed through to another registry: whole there before it counts here, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch, Fault
from cache.ingest import Ingest
from cache.store import BlobStore
from registryd.oci.errors import Denied, RateLimited
from registryd.oci.manifest import parse
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.client import RegistryClient
from registryd.transfer.push_through import LET_IN, PushRights, push_blob, push_manifest
from tests.fakes.clock import FakeClock
from tests.fakes.held import HeldRegistry
from tests.fakes.registry import FakeRegistry, make_image
from tests.fakes.waiting import until
from tests.transfer.conftest import Connect

CONTENT = b"a layer of its own " * 20_000
DIGEST = Digest.of(CONTENT)
BLOB_PUT = f"PUT .*{DIGEST.hex}"

Arrive = Callable[[], Awaitable[Ingest]]


@pytest.fixture
async def upstream() -> AsyncIterator[HeldRegistry]:
    async with HeldRegistry().serve() as server:
        yield server


@pytest.fixture
def arrive(store: BlobStore) -> Arrive:
    """An upload whose bytes are all here."""

    async def arrive_() -> Ingest:
        ingest = await store.upload()
        await ingest.write(0, [CONTENT])
        return ingest

    return arrive_


def there(upstream: FakeRegistry) -> bytes | None:
    """The blob as the registry has it."""
    found = upstream.repositories.get("team/app")
    return None if found is None else found.blobs.get(str(DIGEST))


async def state(store: BlobStore, app: Reference) -> tuple[bool, bool, list[Ingest]]:
    """Whether the blob is here, whether it is a member, and what is arriving."""
    member = await store.is_member(app.name, DIGEST)
    return store.find(DIGEST) is not None, member, store.arriving()


async def test_a_blob_counts_when_its_registry_has_it(
    store: BlobStore, remote: RegistryClient, app: Reference, upstream: HeldRegistry, arrive: Arrive
) -> None:
    """While it is on its way up, the blob is here, kept, and nobody's; then it is a member."""
    gate = upstream.hold("POST .*/uploads/")
    pushing = asyncio.create_task(push_blob(store, remote, app, await arrive(), DIGEST))
    await until(lambda: bool(upstream.lines("POST")))
    during = await state(store, app)
    removed = await store.remove([DIGEST])
    gate.set()
    await pushing

    assert ((True, False, []), {}) == (during, removed)
    assert (True, True, []) == await state(store, app)
    assert CONTENT == there(upstream)
    assert {DIGEST: len(CONTENT)} == await store.unreferenced()  # the lease has ended


@pytest.mark.parametrize(
    ("pattern", "status", "kind"),
    [
        ("POST", 403, Denied),
        ("PUT", 403, Denied),
        ("PUT", 500, Fault),
        ("PUT", 404, Fault),
        ("POST", 429, RateLimited),
    ],
)
async def test_what_is_refused_goes(
    store: BlobStore, remote: RegistryClient, app: Reference, upstream: HeldRegistry,
    arrive: Arrive, pattern: str, status: int, kind: type[Fault],
) -> None:  # fmt: skip
    """When the registry says no, its no is what comes out, and nothing is left here."""
    upstream.answer(pattern, status, times=None)

    with pytest.raises(kind):
        await push_blob(store, remote, app, await arrive(), DIGEST)

    assert (False, False, []) == await state(store, app)
    assert None is there(upstream)


async def test_a_registry_that_cuts_is_tried_again(
    store: BlobStore, remote: RegistryClient, app: Reference, upstream: HeldRegistry, arrive: Arrive
) -> None:
    """A connection that breaks once costs a second sending of the file; one that always does,
    the push."""
    upstream.drop(BLOB_PUT)
    await push_blob(store, remote, app, await arrive(), DIGEST)
    assert ((True, True, []), CONTENT) == (await state(store, app), there(upstream))

    await store.drop_member(app.name, DIGEST)
    upstream.drop(BLOB_PUT, times=None)
    upstream.drop("PATCH", times=None)
    with pytest.raises(TransportError):
        await push_blob(store, remote, app, await arrive(), DIGEST)

    assert (False, False, []) == await state(store, app)


async def test_a_wrong_digest_is_sent_nowhere(
    store: BlobStore, remote: RegistryClient, app: Reference, upstream: HeldRegistry, arrive: Arrive
) -> None:
    """What does not hash to its digest is refused before the registry hears of it."""
    with pytest.raises(DigestMismatch):
        await push_blob(store, remote, app, await arrive(), Digest.of(b"else"))

    assert ([], []) == (upstream.lines(), store.arriving())


async def test_what_another_repository_has_stays(
    store: BlobStore, remote: RegistryClient, app: Reference, upstream: HeldRegistry, arrive: Arrive
) -> None:
    """A refused blob that belongs to another repository is not taken away from it."""
    await store.put(CONTENT, Descriptor("", DIGEST, len(CONTENT)), repository="localhost/mine")
    upstream.answer("POST", 403, times=None)

    with pytest.raises(Denied):
        await push_blob(store, remote, app, await arrive(), DIGEST)

    assert (True, False, []) == await state(store, app)
    assert await store.is_member("localhost/mine", DIGEST)


async def test_one_of_two_pushes_is_refused(
    store: BlobStore, connect: Connect, app: Reference, upstream: HeldRegistry, arrive: Arrive
) -> None:
    """The same blob on its way to two repositories: a refusal of one does not take it from the
    other, which is still at it."""
    remote, other = await connect(upstream), Reference(upstream.name, "team/other")
    gate = upstream.hold("POST .*/team/other/")
    upstream.answer("POST .*/team/app/", 403)
    going = asyncio.create_task(push_blob(store, remote, other, await arrive(), DIGEST))
    await until(lambda: bool(upstream.lines("POST .*/team/other/")))
    with pytest.raises(Denied):
        await push_blob(store, remote, app, await arrive(), DIGEST)
    gate.set()
    await going

    assert (True, False, []) == await state(store, app)
    assert (True, True, []) == await state(store, other)


@pytest.mark.parametrize("at", ["POST", "PUT"])
async def test_a_push_that_is_cancelled_leaves_nothing(
    store: BlobStore, remote: RegistryClient, app: Reference, upstream: HeldRegistry,
    arrive: Arrive, at: str,
) -> None:  # fmt: skip
    """Cancelled while the registry is asked, the push leaves neither blob nor lease nor session."""
    gate = upstream.hold(at)
    pushing = asyncio.create_task(push_blob(store, remote, app, await arrive(), DIGEST))
    await until(lambda: bool(upstream.lines(at)))
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    during = await state(store, app)
    gate.set()

    assert (False, False, []) == during


async def test_a_manifest_under_all_its_tags(
    remote: RegistryClient, app: Reference, upstream: HeldRegistry
) -> None:
    """A manifest is put by its digest first, then under each tag."""
    document = parse(make_image())
    await push_manifest(remote, app.with_digest(document.digest), document, ["a", "b"])

    puts = [line.rpartition("/")[2] for line in upstream.lines("PUT")]
    assert [str(document.digest), "a", "b"] == puts


async def test_a_right_is_asked_for_once(
    remote: RegistryClient, app: Reference, upstream: HeldRegistry, clock: FakeClock
) -> None:
    """The right to push is asked for once for many layers, also at the same time; it is believed
    for a while, and each repository is asked for by itself. No session is left behind."""
    rights = PushRights(clock=lambda: clock.now)
    await asyncio.gather(*(rights.prove(remote, app) for _ in range(5)))
    await rights.prove(remote, app)
    assert 1 == len(upstream.lines("POST"))
    clock.now += LET_IN
    await rights.prove(remote, app)
    assert 2 == len(upstream.lines("POST"))
    await rights.prove(remote, Reference(upstream.name, "team/other"))

    assert 3 == len(upstream.lines("POST")) == len(upstream.lines("DELETE"))
    assert 0 == upstream.open_uploads


async def test_a_refusal_is_not_remembered(
    remote: RegistryClient, app: Reference, upstream: HeldRegistry
) -> None:
    """Who was refused is asked for again; and so is who was let in, once that was taken back."""
    rights = PushRights()
    upstream.answer("POST", 403)
    with pytest.raises(Denied):
        await rights.prove(remote, app)
    await rights.prove(remote, app)
    rights.forget(remote, app)
    upstream.answer("POST", 403)

    with pytest.raises(Denied):
        await rights.prove(remote, app)


async def test_rights_are_bounded(remote: RegistryClient, upstream: HeldRegistry) -> None:
    """However many repositories are pushed to, only so many rights are remembered."""
    rights = PushRights(kept=2)
    for name in ("a", "b", "c", "a"):
        await rights.prove(remote, Reference(upstream.name, name))

    assert 4 == len(upstream.lines("POST"))
