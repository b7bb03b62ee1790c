"""What lies in lower stores, and for whom: bytes by digest, never a right."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.content import Descriptor, Digest
from cache.layout import blob_path
from cache.lower import REST
from cache.lower_index import entry
from cache.store import BlobStore
from registryd.access import ANYBODY, Access, Caller
from registryd.cache_config import LowerConfig
from registryd.config import RegistryConfig
from registryd.oci.errors import BlobUnknown, ManifestUnknown, RegistryError
from registryd.oci.media_types import OCI_MANIFEST
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.client import RegistryClient
from registryd.remote.remotes import RegistryRemotes
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.lower import Lowers
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry, make_image
from tests.transfer.conftest import SETTINGS, TTL

LAYER = b"layer " * 1000
CONFIG = b'{"os":"linux","architecture":"amd64"}'
MANIFEST = make_image(LAYER, config=CONFIG)
ROOT = Descriptor.of(OCI_MANIFEST, MANIFEST)
OTHER = make_image(CONFIG, config=CONFIG)
LOOSE = b"in the store, and of no name in it"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A store that has an image, and a blob beside it."""
    root = tmp_path / "shared"
    for content in (LAYER, CONFIG, MANIFEST, OTHER, LOOSE):
        path = blob_path(root, Digest.of(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture
def lowers(shared: Path, clock: FakeClock) -> Lowers:
    return Lowers([LowerConfig(shared)], clock=lambda: clock.now)


@pytest.fixture
async def flights(store: BlobStore, lowers: Lowers) -> AsyncIterator[Flights]:
    async with Flights.open(store, SETTINGS, lowers=lowers) as opened:
        yield opened


def name(shared: Path, reference: Reference, raw: bytes = MANIFEST, checked: float = 0.0) -> None:
    """Let the store name an image."""
    listed = entry(Descriptor.of(OCI_MANIFEST, raw), str(reference), checked)
    (shared / "index.json").write_text(json.dumps({"manifests": [listed]}))


def away(upstream: FakeRegistry, status: int = 503) -> None:
    """From now on the registry answers so."""
    upstream.faults.clear()
    upstream.answer(".", status, times=None)


async def bring(library: Library, remote: RegistryClient, of: Reference, content: bytes) -> None:
    flight = await library.blob(remote, of, Digest.of(content))
    if flight is not None:
        await flight.landed()


async def test_a_repository_gets_its_own(
    library: Library, remote: RegistryClient, store: BlobStore, upstream: FakeRegistry,
    shared: Path, app: Reference, lowers: Lowers,
) -> None:  # fmt: skip
    """What a name of it leads to comes from the store, and the registry is asked for nothing; what
    is there beside it does not, nor does anything come to another repository of the registry, be
    it here by now or not."""
    name(shared, app.with_tag("1"))
    other = Reference(upstream.name, "team/other")
    with pytest.raises(BlobUnknown):
        await bring(library, remote, other, LAYER)
    asked = len(upstream.lines("/"))
    document = await library.document(remote, app.with_digest(ROOT.digest))
    for content in (LAYER, CONFIG):
        await bring(library, remote, app, content)
    spared = len(upstream.lines("/")) == asked
    for of, content in ((other, LAYER), (app, LOOSE), (other, LOOSE)):
        with pytest.raises(BlobUnknown):
            await bring(library, remote, of, content)
    with pytest.raises(RegistryError):
        await library.document(remote, other.with_digest(ROOT.digest))

    assert (True, MANIFEST) == (spared, document.raw)
    assert await store.is_member(app.name, Digest.of(LAYER))
    assert not await store.is_member(other.name, Digest.of(LAYER))
    assert (3, len(LAYER + CONFIG + MANIFEST)) == (
        lowers.all[0].counts.blobs,
        lowers.all[0].counts.bytes,
    )


async def test_a_public_store_gives_anything(
    library: Library, remote: RegistryClient, shared: Path, app: Reference, lowers: Lowers,
    store: BlobStore,
) -> None:  # fmt: skip
    """Whoever knows a digest of a store that is open gets it; a reload opens and shuts it."""
    name(shared, app.with_tag("1"))
    lowers.take_over([LowerConfig(shared, public=True)])
    await bring(library, remote, app, LOOSE)
    lowers.take_over([])
    with pytest.raises(RegistryError):
        await bring(library, remote, app, LAYER)

    assert store.find(Digest.of(LOOSE))


async def test_a_public_store_opens_nothing_that_it_has_not(
    library: Library, remote: RegistryClient, shared: Path, app: Reference, lowers: Lowers,
    store: BlobStore,
) -> None:  # fmt: skip
    """A blob that is here by another repository stays that one's, though a store is public; a file
    there that is only called so does not open it. What is there is given without the network."""
    theirs, loose = Descriptor.of("application/x", b"theirs"), Descriptor.of("", LOOSE)
    await store.put(b"theirs", theirs, repository="private.test/team/secret")
    await store.put(LOOSE, loose, repository="private.test/team/secret")
    name(shared, app.with_tag("1"))
    lowers.take_over([LowerConfig(shared, public=True)])
    for fake in (None, b"", b"theirZ"):
        if fake is not None:
            blob_path(shared, theirs.digest).write_bytes(fake)
        with pytest.raises(RegistryError):
            await library.blob(remote, app, theirs.digest)

    assert await library.blob(remote, app, loose.digest) is None
    assert not await store.is_member(app.name, theirs.digest)


async def test_what_is_wrong_comes_from_the_registry(
    library: Library, remote: RegistryClient, upstream: FakeRegistry, shared: Path,
    app: Reference, store: BlobStore, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A wrong blob costs one line; nothing of it is kept, and nobody has seen it."""
    name(shared, app.with_tag("1"))
    upstream.add_blob("team/app", LAYER)
    path = blob_path(shared, Digest.of(LAYER))
    path.write_bytes(LAYER.replace(b"l", b"L"))
    flight = await library.blob(remote, app, Digest.of(LAYER))
    assert flight is not None
    seen = await flight.seen()
    given = await flight.ingest()
    await flight.landed()

    assert seen is not given
    assert seen is not None
    assert (True, False) == (seen.ended, seen.committed)
    assert store.find(Digest.of(LAYER))
    assert [str(path) in line for line in caplog.messages] == [True]
    assert upstream.lines("/blobs/")


@pytest.mark.parametrize(
    ("status", "checked", "given"),
    [
        (503, TTL, OTHER), (429, TTL, OTHER), (503, -1.0, MANIFEST),
        (401, TTL, MANIFEST), (404, TTL, None),
    ],
)  # fmt: skip
async def test_the_latest_word_counts(
    library: Library, remote: RegistryClient, upstream: FakeRegistry, store: BlobStore,
    shared: Path, app: Reference, clock: FakeClock, status: int, checked: float,
    given: bytes | None, tmp_path: Path,
) -> None:  # fmt: skip
    """Of a tag whose registry does not answer a store's meaning is given if it was confirmed after
    the cache's, and is remembered as old as it is; a refusal is no reason to look there, and a
    clear no stays one."""
    upstream.add_image("team/app", "1", LAYER)
    tag = app.with_tag("1")
    document = await library.document(remote, tag)
    for child in document.children:
        await bring(library, remote, app, LAYER if child.size == len(LAYER) else CONFIG)
    began = clock.now
    clock.now += 2 * TTL
    name(shared, tag, OTHER, began + checked)
    away(upstream, status)
    if given is None:
        with pytest.raises(ManifestUnknown):
            await library.find(remote, tag)
        return
    found = await library.find(remote, tag)
    remembered = await store.resolve(str(tag))

    assert given == found.document.raw
    assert found.stale is not None
    assert (str(shared) if given == OTHER else "") == found.stale.lower
    assert remembered is not None
    assert remembered.descriptor.digest == found.document.digest
    assert remembered.checked == began + (checked if given == OTHER else 0)


async def test_who_is_let_in_while_the_registry_is_away(
    store: BlobStore, upstream: FakeRegistry, shared: Path, app: Reference, lowers: Lowers
) -> None:
    """Nobody by a store that is not public; by one that is, everybody to the repositories that it
    names, and to no other. A registry that answers with a no is believed."""
    name(shared, app.with_tag("1"))
    callers = (ANYBODY, Caller("uid:1000"))
    let_in: list[list[bool]] = []
    opened = RegistryRemotes.open(
        registries={upstream.name: RegistryConfig(plain_http=True)}, transfer=SETTINGS,
        allow=("*",), credentials=None, proxies={}, clock=FakeClock().clock,
    )  # fmt: skip
    async with opened as remotes:
        access = Access(store, remotes, ttl=60, lowers=lowers)
        for public, status in ((False, 503), (True, 503), (True, 401)):
            lowers.take_over([LowerConfig(shared, public=public)])
            away(upstream, status)
            let_in.append(
                [await lets_in(access, each, app.with_tag("1")) for each in callers]
                + [await lets_in(access, ANYBODY, Reference(upstream.name, "team/b", "1"))]
            )

    assert [[False] * 3, [True, True, False], [False] * 3] == let_in


async def lets_in(access: Access, caller: Caller, reference: Reference) -> bool:
    try:
        await access.admit(caller, reference)
    except (TransportError, RegistryError):
        return False
    return True


async def test_what_failed_is_asked_for_again(
    shared: Path, lowers: Lowers, app: Reference, clock: FakeClock
) -> None:
    """A manifest that could not be read once is no reason to do without its image for good."""
    name(shared, app.with_tag("1"))
    path, layer = blob_path(shared, ROOT.digest), Digest.of(LAYER)
    path.write_bytes(b"{}")
    failed = await lowers.vouch(app.name, layer)
    path.write_bytes(MANIFEST)
    clock.now += REST

    assert (False, True) == (failed, await lowers.vouch(app.name, layer))


async def test_a_bare_tag_is_no_name(
    shared: Path, lowers: Lowers, caplog: pytest.LogCaptureFixture
) -> None:
    """A layout of other tools whose tags are bare names no repository of Docker Hub."""
    listed = entry(ROOT, "latest", 0.0)
    (shared / "index.json").write_text(json.dumps({"manifests": [listed]}))
    with caplog.at_level(logging.WARNING):
        hub = "docker.io/library/latest"

        assert not await lowers.vouch(hub, ROOT.digest)
        assert await lowers.named(Reference.parse(hub)) is None
    assert [] == caplog.messages
