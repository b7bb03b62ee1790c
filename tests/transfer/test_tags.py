"""What a tag means while its registry does not say: what is held, or no, and how it is told."""

import asyncio
import logging

import pytest

from cache.content import Descriptor, Digest
from cache.store import BlobStore
from registryd.oci.errors import (
    BadAnswer,
    Denied,
    ManifestUnknown,
    NameUnknown,
    RateLimited,
    RegistryError,
    Unauthorized,
)
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.ports import Offline, TransportError
from registryd.remote.client import RegistryClient
from registryd.remote.offline import SilentRegistry
from registryd.transfer.library import Library
from registryd.transfer.pull import Request, pull
from registryd.transfer.report import Event
from registryd.transfer.tag_policy import TagPolicy
from registryd.transfer.tags import Stale, Tags, cause_of
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry
from tests.transfer.conftest import TTL, Configured, hold

MANIFESTS = "/manifests/"
LAYER = b"layer " * 1000


# why a registry gave no answer


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Offline("x"), "offline"),
        (TransportError("x"), "unreachable"),
        (RateLimited("x", status=429), "rate_limited"),
        (RegistryError("x", status=500), "server_error"),
        (RegistryError("x", status=503), "server_error"),
        (Unauthorized("x", status=401), "refused"),
        (Unauthorized("a token server's word", status=400), "refused"),
        (Denied("x", status=403), "refused"),
        (NameUnknown("not found or no access", status=401), "refused"),
        (ManifestUnknown("x", status=404), "missing"),
        (NameUnknown("x", status=404), "missing"),
        (Denied("a rule of our own"), None),
        (BadAnswer("a web page"), None),
        (RegistryError("x", status=400), None),
    ],
)
def test_causes(error: TransportError | RegistryError, cause: str | None) -> None:
    """Each failure has one cause; what is no registry's word on the tag has none."""
    assert cause == cause_of(error)


@pytest.mark.parametrize(
    ("cause", "said"),
    [("rate_limited", "wants no more requests"), ("server_error", "fails"),
     ("unreachable", "cannot be reached"), ("refused", "refuses access"),
     ("missing", "does not have it any more"), ("offline", "is offline by configuration")],
)  # fmt: skip
def test_what_is_said(cause: str, said: str) -> None:
    """The line names the registry, what is wrong, the image, and how old the knowledge is."""
    stale = Stale(Reference("docker.io", "library/alpine", "3"), cause, 5400.4)  # type: ignore[arg-type]
    line = str(stale)

    assert line.startswith(f"docker.io {said}")
    assert line.endswith(": docker.io/library/alpine:3 is given as it was 1h30m ago")


# the matrix


TROUBLE = {
    "429": "rate_limited", "500": "server_error", "503": "server_error", "drop": "unreachable",
    "401": "refused", "403": "refused", "404": "missing",
}  # fmt: skip


def trouble(upstream: FakeRegistry, kind: str, pattern: str = MANIFESTS) -> None:
    """From now on the registry answers so."""
    if kind == "drop":
        upstream.drop(pattern, times=None)
    else:
        upstream.answer(pattern, int(kind), times=None, Retry_After="999999")


@pytest.mark.parametrize("kind", TROUBLE)
@pytest.mark.parametrize("missing_tags", ["refuse", "serve"])
@pytest.mark.parametrize("fresh", [False, True])
async def test_what_is_held_whole_is_given(
    configured: Configured, upstream: FakeRegistry, remote: RegistryClient,
    tag: Reference, held: Digest, clock: FakeClock, kind: str, missing_tags: str, fresh: bool,
) -> None:  # fmt: skip
    """Trouble never takes away what is whole. A clear no does from one who wants it fresh, and a
    missing tag where the policy refuses it."""
    library = configured(missing_tags=missing_tags)
    clock.now += TTL + 1
    trouble(upstream, kind)
    given = kind not in ("401", "403", "404") or not fresh
    given = given and (kind != "404" or missing_tags == "serve")

    if not given:
        with pytest.raises(RegistryError) as caught:
            await library.find(remote, tag, fresh=fresh)
        assert int(kind) == caught.value.status
        return
    found = await library.find(remote, tag, fresh=fresh)
    assert found.stale is not None
    assert (held, TROUBLE[kind], False) == (
        found.document.digest,
        found.stale.cause,
        found.answered,
    )
    assert found.stale.age >= TTL + 1


@pytest.mark.parametrize("kind", TROUBLE)
@pytest.mark.parametrize("left_out", ["a layer", "everything", "whose it is"])
async def test_what_is_not_whole_is_not_given(
    library: Library, store: BlobStore, upstream: FakeRegistry, remote: RegistryClient,
    tag: Reference, clock: FakeClock, kind: str, left_out: str,
) -> None:  # fmt: skip
    """A tag of which something is missing, or was not proven to be the repository's, is refused
    with what the registry said: its client asks elsewhere."""
    if left_out != "everything":
        document = await library.document(remote, tag)
        for child in document.children[:1]:
            flight = await library.blob(remote, tag, child.digest)
            assert flight is not None
            await flight.landed()
    if left_out == "whose it is":
        other = Reference(upstream.name, "team/other", "1")
        upstream.add_image("team/other", "1", LAYER)
        await hold(library, remote, other)
    known = await store.resolve(str(tag))
    complete = known is not None and known.complete
    clock.now += TTL + 1
    trouble(upstream, kind)

    assert complete == (left_out == "whose it is")
    with pytest.raises((TransportError, RegistryError)):
        await library.find(remote, tag)


async def test_it_is_logged(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    held: Digest, clock: FakeClock, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """One warning says what was given, why, how old it is, and what the registry said."""
    clock.now += TTL + 1
    trouble(upstream, "503")
    with caplog.at_level(logging.WARNING):
        await library.find(remote, tag)
    lines = [record.getMessage() for record in caplog.records]

    assert 1 == len([line for line in lines if f"ref={tag} cause=server_error age=" in line])
    assert "(503)" in lines[-1] or "says 503" in lines[-1]


async def test_a_tag_that_moved_to_what_cannot_be_had(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    held: Digest, clock: FakeClock, store: BlobStore,
) -> None:  # fmt: skip
    """When the registry says by HEAD that a tag has moved but cannot give what it means now, what
    it meant before is given; and it stays what the tag means here."""
    upstream.add_image("team/app", "1", b"moved")
    clock.now += TTL + 1
    trouble(upstream, "503", "GET .*/manifests/")
    found = await library.find(remote, tag)
    name = await store.resolve(str(tag))

    assert found.stale is not None and name is not None
    assert (held, "server_error") == (found.document.digest, found.stale.cause)
    assert (held, True) == (name.descriptor.digest, name.checked < clock.now - TTL)


async def test_stale_is_asked_for_again(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    held: Digest, clock: FakeClock,
) -> None:  # fmt: skip
    """What was given without the registry's word is not fresh by that: the next one asks."""
    clock.now += TTL + 1
    trouble(upstream, "drop")
    await library.find(remote, tag)
    upstream.faults.clear()
    found = await library.find(remote, tag)

    assert (held, None, True) == (found.document.digest, found.stale, found.answered)


async def test_a_stale_pull_makes_nothing_fresh(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    held: Digest, clock: FakeClock, store: BlobStore,
) -> None:  # fmt: skip
    """A pull that had to do with what is held says so once, and the tag stays as old as it was."""
    before = await store.resolve(str(tag))
    clock.now += TTL + 1
    trouble(upstream, "drop")
    events: list[Event] = []
    await pull(library, store, Request(tag, remote, Platform("linux", "amd64")), events.append)

    assert before == await store.resolve(str(tag))
    assert [event["cause"] for event in events if event["event"] == "warning"] == ["unreachable"]
    assert ("done", str(held)) == (events[-1]["event"], events[-1]["digest"])


async def test_what_is_believed_asks_nobody(
    library: Library, upstream: FakeRegistry, remote: RegistryClient, tag: Reference, held: Digest
) -> None:
    """Within its time a whole image costs no question, and is not stale."""
    before = len(upstream.requests)
    found = await library.find(remote, tag)

    assert (held, None, False) == (found.document.digest, found.stale, found.answered)
    assert before == len(upstream.requests)


async def test_a_registry_that_says_nothing(
    store: BlobStore, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    held: Digest, clock: FakeClock, policy: TagPolicy,
) -> None:  # fmt: skip
    """A client that has no one else to ask waits for a silent registry only so long, if what it
    wants is here; and for as long as it takes when not."""
    gate = asyncio.Event()
    answer = remote.resolve

    class Slow(SilentRegistry):
        async def resolve(self, reference: Reference) -> Descriptor:
            await gate.wait()
            return await answer(reference)

    slow = Slow(lambda: TransportError("x"))
    tags = Tags(store, policy, clock=lambda: clock.now, patience=0.01)
    clock.now += TTL + 1
    given = await tags.resolve(slow, tag)
    upstream.add_image("team/app", "2", b"other")
    waiting = asyncio.create_task(tags.resolve(slow, tag.with_tag("2")))
    wanting = asyncio.create_task(tags.resolve(slow, tag, fresh=True))
    await asyncio.wait([waiting, wanting], timeout=0.1)
    patient = not waiting.done() and not wanting.done()
    gate.set()

    assert given.stale is not None
    assert ("unreachable", held, True) == (given.stale.cause, given.descriptor.digest, patient)
    assert (await waiting).answered and (await wanting).answered


async def test_who_joins_decides_for_herself(
    library: Library, store: BlobStore, tag: Reference, held: Digest, clock: FakeClock
) -> None:
    """Two who ask at once share the question, and each makes of the answer what is hers."""
    gate, questions = asyncio.Event(), []

    class Refusing(SilentRegistry):
        async def resolve(self, reference: Reference) -> Descriptor:
            questions.append(reference)
            await gate.wait()
            raise Denied("no", status=403)

    refusing = Refusing(lambda: TransportError("x"))
    clock.now += TTL + 1
    await store.resolve(str(tag))  # from here on it is answered from memory, so without a pause
    asking = [
        asyncio.create_task(library.find(refusing, tag, fresh=fresh)) for fresh in (False, True)
    ]
    await asyncio.wait(asking, timeout=0.01)
    gate.set()
    first, second = await asyncio.gather(*asking, return_exceptions=True)

    assert [tag] == questions
    assert not isinstance(first, BaseException) and first.stale is not None
    assert isinstance(second, Denied)
