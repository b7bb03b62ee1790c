"""What a repository gives: tags for their time, and only content that was proven to be its own."""

import asyncio

import pytest

from cache.content import Digest
from cache.errors import DigestMismatch, Fault
from cache.store import BlobStore
from registryd.oci.errors import BlobUnknown, ManifestUnknown, RegistryError
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.client import RegistryClient
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from tests.fakes.clock import FakeClock
from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry, digest_of, make_image
from tests.fakes.waiting import until
from tests.transfer.conftest import TTL, Connect

MANIFESTS = "/manifests/"
BLOBS = "/blobs/"
SECRET = b"the private layer " * 1000


# tags


async def test_a_tag_is_believed_for_its_time(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    clock: FakeClock,
) -> None:  # fmt: skip
    """Within its time to live a tag costs no request; after it, a HEAD, and then again none."""
    await library.document(remote, tag)
    asked = [len(upstream.lines(MANIFESTS))]
    clock.now += TTL - 1
    await library.document(remote, tag)
    asked.append(len(upstream.lines(MANIFESTS)))
    clock.now += 2
    await library.document(remote, tag)
    asked.append(len(upstream.lines(MANIFESTS)))
    clock.now += TTL - 1
    await library.document(remote, tag)
    asked.append(len(upstream.lines(MANIFESTS)))

    assert [2, 2, 3, 3] == asked
    assert upstream.lines(MANIFESTS)[-1].startswith("HEAD")


async def test_a_clock_set_back_asks_again(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    clock: FakeClock,
) -> None:  # fmt: skip
    """A tag that was checked in the future is not believed."""
    await library.document(remote, tag)
    clock.now -= 10_000
    await library.document(remote, tag)

    assert 3 == len(upstream.lines(MANIFESTS))


async def test_fresh_asks_whatever_is_remembered(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference
) -> None:
    """A pull sees a tag that was moved a moment ago."""
    await library.document(remote, tag)
    moved = upstream.add_image("team/app", "1", b"other")
    believed = await library.document(remote, tag)
    fresh = await library.document(remote, tag, fresh=True)

    assert (False, True) == (moved == str(believed.digest), moved == str(fresh.digest))


async def test_a_moved_tag_is_seen_after_its_time(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    clock: FakeClock, store: BlobStore,
) -> None:  # fmt: skip
    """The HEAD that finds another digest fetches it, and the name means that from then on."""
    await library.document(remote, tag)
    moved = upstream.add_image("team/app", "1", b"other")
    clock.now += TTL + 1
    await library.document(remote, tag)
    name = await store.resolve(str(tag))

    assert name is not None and moved == str(name.descriptor.digest)


@pytest.mark.parametrize("trouble", ["500", "503", "429", "drop", "gone"])
async def test_what_is_remembered_is_given_in_trouble(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    clock: FakeClock, trouble: str, connect: Connect,
) -> None:  # fmt: skip
    """When the registry fails, limits or cannot be reached, a stale image is better than none."""
    expected = await library.document(remote, tag)
    for child in expected.children:
        flight = await library.blob(remote, tag, child.digest)
        assert flight is not None
        await flight.landed()
    clock.now += TTL + 1
    match trouble:
        case "drop":
            upstream.drop(MANIFESTS, times=None)
        case "gone":
            nobody = FakeRegistry()
            nobody.port = 1
            remote = await connect(nobody)
        case status:
            upstream.answer(MANIFESTS, int(status), times=None, Retry_After="999999")

    assert expected == await library.document(remote, tag)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_clear_no_is_passed_on(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    clock: FakeClock, status: int,
) -> None:  # fmt: skip
    """A registry that says no is believed of an image that is not all here."""
    await library.document(remote, tag)
    clock.now += TTL + 1
    upstream.answer(MANIFESTS, status, times=None)

    with pytest.raises(RegistryError) as caught:
        await library.document(remote, tag)
    assert status == caught.value.status


async def test_trouble_without_memory_is_an_error(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference
) -> None:
    """Where nothing is remembered the trouble is passed on."""
    upstream.drop(MANIFESTS, times=None)

    with pytest.raises(TransportError):
        await library.document(remote, tag)


async def test_many_who_resolve_ask_once(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference
) -> None:
    """A storm on one tag is one HEAD and one GET."""
    documents = await asyncio.gather(*(library.document(remote, tag) for _ in range(20)))

    assert (1, ["HEAD", "GET"]) == (
        len({document.digest for document in documents}),
        [line.split()[0] for line in upstream.lines(MANIFESTS)],
    )


async def test_a_wrong_manifest_is_not_kept(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    store: BlobStore,
) -> None:  # fmt: skip
    """A manifest that does not hash to what the HEAD promised is an error."""
    other = make_image(b"another")

    def lie(answer: Reply) -> None:
        answer.body = other

    upstream.change("GET .*/manifests/", lie)

    with pytest.raises(DigestMismatch):
        await library.document(remote, tag)
    assert (0, None) == (len(store), await store.resolve(str(tag)))


# whose content it is


async def hold_secret(library: Library, upstream: FakeRegistry, remote: RegistryClient) -> Digest:
    """A layer that the cache holds through team/private alone."""
    digest = Digest.parse(upstream.add_blob("team/private", SECRET))
    flight = await library.blob(remote, Reference(upstream.name, "team/private"), digest)
    assert flight is not None
    await flight.landed()
    return digest


async def test_held_content_is_refused_where_it_does_not_belong(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, app: Reference
) -> None:
    """A blob that is held through one repository is not given through another whose registry
    says that it has none."""
    digest = await hold_secret(library, upstream, remote)
    upstream.add_image("team/app", "1", b"else")

    with pytest.raises(BlobUnknown):
        await library.blob(remote, app, digest)
    with pytest.raises(BlobUnknown):
        await library.blob(remote, app, digest)
    assert ["HEAD"] * 2 == [line.split()[0] for line in upstream.lines(f"app/blobs/{digest}")]


async def test_held_content_is_given_once_confirmed(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, app: Reference
) -> None:
    """One HEAD confirms that a held blob is in the other repository too; it is not fetched, and
    not asked for again."""
    digest = await hold_secret(library, upstream, remote)
    upstream.add_blob("team/app", SECRET)
    given = [await library.blob(remote, app, digest) for _ in range(2)]

    assert ([None, None], [f"HEAD /v2/team/app/blobs/{digest}"]) == (
        given,
        upstream.lines("app/blobs"),
    )


async def test_a_manifest_proves_nothing(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, app: Reference
) -> None:
    """That a repository's manifest names a digest does not make it the repository's."""
    digest = await hold_secret(library, upstream, remote)
    upstream.add_manifest("team/app", "1", make_image(SECRET))
    await library.document(remote, app.with_tag("1"))

    with pytest.raises(BlobUnknown):
        await library.blob(remote, app, digest)


async def test_an_arriving_blob_is_refused_where_it_does_not_belong(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, app: Reference,
    flights: Flights,
) -> None:  # fmt: skip
    """A flight for one repository is not joined through another before that one confirmed."""
    gate = asyncio.Event()
    upstream.stall("GET .*/blobs/", gate)
    private = Reference(upstream.name, "team/private")
    digest = Digest.parse(upstream.add_blob("team/private", SECRET))
    flight = await library.blob(remote, private, digest)
    with pytest.raises(BlobUnknown):
        await library.blob(remote, app, digest)
    upstream.add_blob("team/app", SECRET)
    confirmed = await library.blob(remote, app, digest)
    gate.set()
    assert flight is not None
    await flight.landed()

    assert flight is confirmed
    assert await library.blob(remote, app, digest) is None


async def test_a_flight_that_began_meanwhile_proves_nothing(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, app: Reference
) -> None:
    """Two repositories ask for the same new blob in the same instant: the second one's registry
    is asked as well."""
    private = Reference(upstream.name, "team/private")
    digest = Digest.parse(upstream.add_blob("team/private", SECRET))
    gate = asyncio.Event()
    upstream.stall("GET .*/blobs/", gate)
    ours, theirs = await asyncio.gather(
        library.blob(remote, private, digest),
        library.blob(remote, app, digest),
        return_exceptions=True,
    )
    gate.set()
    assert not isinstance(ours, BaseException) and ours is not None
    await ours.landed()

    assert isinstance(theirs, BlobUnknown)


async def test_a_manifest_of_another_repository_is_asked_for(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, app: Reference
) -> None:
    """A manifest by digest is given only through repositories that have it."""
    digest = Digest.parse(upstream.add_image("team/private", "1", SECRET))
    await library.document(remote, Reference(upstream.name, "team/private", digest=digest))

    with pytest.raises(ManifestUnknown):
        await library.document(remote, app.with_digest(digest))


async def test_what_a_digest_means_is_asked_for_too(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, app: Reference
) -> None:
    """Not even size and media type of another repository's manifest are told."""
    digest = Digest.parse(upstream.add_image("team/private", "1", SECRET))
    await library.document(remote, Reference(upstream.name, "team/private", digest=digest))

    with pytest.raises(ManifestUnknown):
        await library.resolve(remote, app.with_digest(digest))


async def test_a_head_proves_no_manifest(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, app: Reference
) -> None:
    """A registry that says by HEAD that its tag is a manifest of another has to send it."""
    digest = Digest.parse(upstream.add_image("team/private", "1", SECRET))
    held = await library.document(remote, Reference(upstream.name, "team/private", digest=digest))
    upstream.answer(
        "HEAD .*team/app/manifests", 200, held.raw, times=None,
        Content_Type=held.media_type, Docker_Content_Digest=str(digest),
    )  # fmt: skip

    with pytest.raises(ManifestUnknown):
        await library.document(remote, app.with_tag("1"))


async def test_what_is_held_by_digest_costs_no_request(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference
) -> None:
    """A manifest that belongs to its repository is given by digest without asking anyone."""
    document = await library.document(remote, tag)
    before = len(upstream.requests)
    await library.document(remote, tag.with_digest(document.digest))

    assert before == len(upstream.requests)


# the node's own registry


async def test_what_is_not_pushed_here_is_unknown(library: Library) -> None:
    """localhost has no upstream: names, manifests and blobs that are not here are unknown."""
    own = Reference("localhost", "app")
    digest = Digest.of(b"nothing")

    for asked in (own.with_tag("1"), own.with_digest(digest)):
        with pytest.raises(ManifestUnknown):
            await library.document(None, asked)
    with pytest.raises(BlobUnknown):
        await library.blob(None, own, digest)


async def test_own_repositories_do_not_share(
    library: Library, upstream: FakeRegistry, remote: RegistryClient
) -> None:
    """What is held through another name is not in the node's own registry."""
    digest = await hold_secret(library, upstream, remote)

    with pytest.raises(BlobUnknown):
        await library.blob(None, Reference("localhost", "app"), digest)


async def test_a_cancelled_asker_does_not_cancel_the_others(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference
) -> None:
    """Of several who wait for a manifest the first may leave: the others get it."""
    gate = asyncio.Event()
    upstream.stall("GET .*/manifests/", gate)
    first = asyncio.create_task(library.document(remote, tag))
    await until(lambda: upstream.lines("GET .*/manifests/"))
    second = asyncio.create_task(library.document(remote, tag))
    await until(lambda: len(upstream.lines("HEAD")) == 2)
    first.cancel()
    gate.set()

    assert digest_of((await second).raw) == str((await second).digest)
    with pytest.raises((asyncio.CancelledError, Fault)):
        await first
