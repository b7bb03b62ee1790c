"""An image made present: which platforms, what is fetched, and the name that comes last."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from cache.content import Digest
from cache.errors import CacheError, SizeMismatch
from cache.store import BlobStore
from registryd.oci.errors import BlobUnknown, PlatformUnknown
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.client import RegistryClient
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.pull import Request, pull
from registryd.transfer.report import Event
from tests.fakes.endpoints import Sample, image, index
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
SHARED = b"shared by both " * 5000
AMD, ARM = b"for amd64 " * 9000, b"for arm64 " * 9000


def offer(upstream: FakeRegistry, sample: Sample, tag: str = "1") -> None:
    """Put an image into the scripted registry."""
    for content in sample.blobs.values():
        upstream.add_blob("team/app", content)
    for document in sample.documents.values():
        upstream.add_manifest("team/app", "", document.raw, document.media_type)
    upstream.add_manifest("team/app", tag, sample.root.raw, sample.root.media_type)


@pytest.fixture
def both(upstream: FakeRegistry) -> Sample:
    """An image for two platforms, with a layer in common."""
    sample = index(amd64=image(SHARED, AMD), arm64=image(SHARED, ARM, architecture="arm64"))
    offer(upstream, sample)
    return sample


class Puller:
    """Pulls of team/app:1, with what they told."""

    def __init__(self, library: Library, store: BlobStore, remote: RegistryClient, app: Reference):
        self.library, self.store, self.remote = library, store, remote
        self.reference = app.with_tag("1")
        self.events: list[Event] = []

    async def __call__(
        self,
        *platforms: Platform,
        everything: bool = False,
        host: Platform = AMD64,
        reference: Reference | None = None,
        owner: str = "",
    ) -> Event:
        """Pull; the last event."""
        self.events = []
        named = reference or self.reference
        request = Request(named, self.remote, host, platforms, everything=everything, owner=owner)
        async with asyncio.timeout(30):
            await pull(self.library, self.store, request, self.events.append)
        return self.events[-1]

    def held(self, *contents: bytes) -> list[bool]:
        """Which of these are here."""
        return [self.store.find(Digest.of(content)) is not None for content in contents]

    async def images(self) -> list[str]:
        """The names whose images are whole, as index.json has them too."""
        names = [name.name for name in await self.store.names() if name.complete]
        listed = json.loads((self.store.root / "index.json").read_text())["manifests"]
        annotations = "org.opencontainers.image.ref.name"
        assert names == [entry["annotations"][annotations] for entry in listed]
        return names


@pytest.fixture
def pulling(library: Library, store: BlobStore, remote: RegistryClient, app: Reference) -> Puller:
    return Puller(library, store, remote, app)


def states(events: Sequence[Event], state: str) -> list[object]:
    """The kinds of the blobs that came into a state."""
    return [event["kind"] for event in events if event.get("state") == state]


async def test_the_host_s_platform_of_an_index(pulling: Puller, both: Sample) -> None:
    """Without a choice the host's platform comes, and the name means the index still."""
    done = await pulling()

    assert ([True, True, False], str(both.root.digest), ["linux/amd64"]) == (
        pulling.held(SHARED, AMD, ARM),
        done["digest"],
        done["platforms"],
    )
    assert [str(pulling.reference)] == await pulling.images()


async def test_another_platform(pulling: Puller, both: Sample) -> None:
    """The platform asked for comes, not the host's."""
    await pulling(ARM64)

    assert [True, False, True] == pulling.held(SHARED, AMD, ARM)


@pytest.mark.parametrize("platforms", [(AMD64, ARM64), ()])
async def test_several_platforms(
    pulling: Puller, both: Sample, platforms: tuple[Platform, ...], upstream: FakeRegistry
) -> None:
    """Several platforms, or all: what they share is fetched once."""
    done = await pulling(*platforms, everything=not platforms)

    assert ([True] * 3, ["linux/amd64", str(ARM64)]) == (
        pulling.held(SHARED, AMD, ARM),
        done["platforms"],
    )
    assert 1 == len(upstream.lines(f"GET .*/blobs/{Digest.of(SHARED)}"))
    assert (5, 0) == (done["fetched_blobs"], done["held_blobs"])


async def test_a_platform_that_is_not_there(pulling: Puller, both: Sample) -> None:
    """A platform that the index lacks is an error that lists what it has; no name is left."""
    with pytest.raises(PlatformUnknown, match=r"linux/amd64.*linux/arm64"):
        await pulling(Platform("linux", "riscv64"))
    assert [] == await pulling.images()


async def test_a_plain_image_is_for_whoever_asks(pulling: Puller, upstream: FakeRegistry) -> None:
    """A manifest without index comes whatever the host is."""
    sample = image(AMD)
    offer(upstream, sample)
    done = await pulling(host=ARM64)

    assert (str(sample.root.digest), [True]) == (done["digest"], pulling.held(AMD))


async def test_what_is_held_is_not_fetched(
    pulling: Puller, both: Sample, upstream: FakeRegistry
) -> None:
    """A second platform fetches only what is new; what is held is counted as held."""
    await pulling(AMD64)
    before = len(upstream.lines("GET .*/blobs/"))
    done = await pulling(ARM64)

    assert (2, 2, 1, len(SHARED)) == (
        len(upstream.lines("GET .*/blobs/")) - before,
        done["fetched_blobs"],
        done["held_blobs"],
        done["held"],
    )
    assert isinstance(done["fetched"], int) and done["fetched"] > len(ARM)
    assert ["layer"] == states(pulling.events, "held")


async def test_a_second_pull_fetches_nothing(
    pulling: Puller, both: Sample, upstream: FakeRegistry
) -> None:
    """When all is here only the tag is looked up again."""
    await pulling()
    before = len(upstream.requests)
    done = await pulling()

    assert (0, 0, 3) == (done["fetched"], done["fetched_blobs"], done["held_blobs"])
    assert ["HEAD"] == [seen.method for seen in upstream.requests[before:]]


async def test_what_was_brought_before_its_name_counts(
    pulling: Puller, upstream: FakeRegistry, library: Library, remote: RegistryClient,
    store: BlobStore,
) -> None:  # fmt: skip
    """An image that has no name yet counts for the user who gives it one, though all of its layers
    came before, of a pull that was broken off; who finds one here pays nothing."""
    sample = image(AMD)
    offer(upstream, sample)
    repository = pulling.reference.bare()
    for content in sample.blobs.values():
        flight = await library.blob(remote, repository, Digest.of(content))
        assert flight is not None
        await flight.landed()
    for owner in ("uid:1", "uid:2"):
        await pulling(owner=owner)

    usages = await store.room.quotas.usage()
    assert [("uid:1", 1)] == [(usage.owner, usage.images) for usage in usages]


async def test_events_of_a_pull(pulling: Puller, upstream: FakeRegistry) -> None:
    """First what the name means, then each blob waiting, fetching and done, then the result."""
    offer(upstream, image(AMD))
    await pulling()
    kinds = [event["event"] for event in pulling.events]

    assert ("resolved", "done") == (kinds[0], kinds[-1])
    for state in ("waiting", "fetching", "done"):
        assert ["config", "layer"] == sorted(map(str, states(pulling.events, state)))
    assert upstream.name in [event.get("source") for event in pulling.events]


@pytest.mark.parametrize("lie", [-1, 1])
async def test_a_manifest_that_lies_about_a_size(
    pulling: Puller, upstream: FakeRegistry, lie: int
) -> None:
    """A layer of another size than its manifest says is an error of content (exit code 5)."""
    sample = image(AMD)
    offer(upstream, sample)
    size = len(AMD)
    raw = sample.root.raw.replace(f'"size": {size}'.encode(), f'"size": {size + lie}'.encode())
    assert raw != sample.root.raw
    upstream.add_manifest("team/app", "1", raw)

    with pytest.raises(SizeMismatch) as caught:
        await pulling()
    assert (5, []) == (caught.value.exit_code, await pulling.images())


async def test_a_lie_about_what_is_held(pulling: Puller, upstream: FakeRegistry) -> None:
    """The size is compared for a layer that is held already, too."""
    sample = image(AMD)
    offer(upstream, sample)
    await pulling()
    size = len(AMD)
    raw = sample.root.raw.replace(f'"size": {size}'.encode(), f'"size": {size + 1}'.encode())
    upstream.add_manifest("team/app", "1", raw)

    with pytest.raises(SizeMismatch, match="the manifest of"):
        await pulling()


async def test_a_failure_leaves_no_name(
    pulling: Puller, upstream: FakeRegistry, store: BlobStore
) -> None:
    """When the last layer fails there is no image: not in the list, not in index.json; what came
    is not fetched again by the next try."""
    sample = image(SHARED, AMD)
    offer(upstream, sample)
    upstream.cut(f"GET .*/{Digest.of(AMD)}", at=1000, times=None)
    upstream.change(
        f"GET .*/{Digest.of(AMD)}", lambda answer: setattr(answer, "cut", 0), times=None
    )
    with pytest.raises(TransportError):
        await pulling()
    names = await store.names()
    upstream.faults.clear()
    before = await pulling.images()
    await pulling()

    assert ([], []) == (names, before)
    assert [str(pulling.reference)] == await pulling.images()
    # Held by then, or joined while it still arrives: in either case it came once.
    assert 1 == len(upstream.lines(f"GET .*/{Digest.of(SHARED)}"))


async def test_a_failure_keeps_what_the_name_meant(pulling: Puller, upstream: FakeRegistry) -> None:
    """A pull of a moved tag that fails leaves the image that was there, by its name."""
    first = image(SHARED)
    offer(upstream, first)
    await pulling()
    offer(upstream, image(SHARED, AMD))
    del upstream.repositories["team/app"].blobs[str(Digest.of(AMD))]
    with pytest.raises(BlobUnknown):
        await pulling()
    name = await pulling.store.resolve(str(pulling.reference))

    assert [str(pulling.reference)] == await pulling.images()
    assert name is not None and name.descriptor.digest == first.root.digest


async def test_a_pull_by_digest_is_named_by_its_digest(
    pulling: Puller, both: Sample, app: Reference
) -> None:
    """Without a tag the digest is the name; with both the digest decides and the tag is dropped."""
    exact = Reference(app.registry, app.repository, "old", both.root.digest)
    await pulling(reference=exact)

    assert [str(app.with_digest(both.root.digest))] == await pulling.images()


async def test_what_a_pull_needs_is_kept_meanwhile(
    pulling: Puller, upstream: FakeRegistry, store: BlobStore
) -> None:
    """While a pull runs, nothing it has brought can be removed; afterwards its name keeps it."""
    sample = image(SHARED, AMD)
    offer(upstream, sample)
    gate = asyncio.Event()
    upstream.stall(f"GET .*/{Digest.of(AMD)}", gate, at=5000)
    running = asyncio.create_task(pulling())
    await until(lambda: pulling.held(SHARED) == [True])
    loose = await store.unreferenced()
    removed = await store.remove([Digest.of(SHARED), sample.root.digest])
    gate.set()
    await running

    assert ({}, {}) == (loose, removed)
    assert {} == await store.unreferenced()


async def test_a_cancelled_pull_leaves_its_flights(
    pulling: Puller, upstream: FakeRegistry, flights: Flights
) -> None:
    """Who hangs up ends the pull, not what it began to fetch; and no name is set."""
    offer(upstream, image(AMD))
    gate = asyncio.Event()
    upstream.stall(f"GET .*/{Digest.of(AMD)}", gate, at=5000)
    running = asyncio.create_task(pulling())
    await until(lambda: len(flights.under_way()) == 1 and upstream.sent[str(Digest.of(AMD))])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.set()
    await until(lambda: not flights.under_way())

    assert ([True], []) == (pulling.held(AMD), await pulling.images())


async def test_two_pulls_at_once_share_their_flights(
    pulling: Puller, library: Library, store: BlobStore, both: Sample, upstream: FakeRegistry
) -> None:
    """Two pulls of one image fetch each blob once."""
    request = Request(pulling.reference, pulling.remote, AMD64)
    await asyncio.gather(*(pull(library, store, request, lambda e: None) for _ in range(2)))

    lines = upstream.lines("GET .*/blobs/")
    assert 3 == len(set(lines)) == len(lines)


async def test_wrong_bytes_are_an_error_of_content(pulling: Puller, upstream: FakeRegistry) -> None:
    """A layer that does not hash to its digest ends the pull with the content's error."""
    offer(upstream, image(AMD))
    upstream.change(
        f"GET .*/{Digest.of(AMD)}", lambda answer: setattr(answer, "body", bytes(len(AMD)))
    )

    with pytest.raises(CacheError) as caught:
        await pulling()
    assert (5, []) == (caught.value.exit_code, await pulling.images())
