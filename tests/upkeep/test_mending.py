"""What was found to be wrong is fetched again by the node itself, from where it belongs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from typing_extensions import override

from cache.content import Descriptor, Digest
from cache.store import BlobStore
from registryd.oci.reference import Reference
from registryd.ports import Remote
from registryd.remote.client import RegistryClient
from registryd.secrets import Login
from registryd.transfer.library import Library
from registryd.upkeep.mending import Mending
from tests.fakes.registry import FakeRegistry


@dataclass
class Remotes:
    """The one registry, with this node's own login only."""

    own: RegistryClient

    def remote(self, registry: str, login: Login | None = None) -> Remote:
        assert (self.own.registry, None) == (registry, login)
        return self.own

    def knows_us(self, repository: Reference) -> bool:
        return False

    def left_alone(self) -> list[tuple[str, float, str]]:
        return []

    @override
    def __repr__(self) -> str:
        return "Remotes()"


@pytest.fixture
def mending(store: BlobStore, library: Library, remote: RegistryClient) -> Mending:
    return Mending(store, library, Remotes(remote))


async def spoil(store: BlobStore, digest: Digest) -> None:
    """Let a blob's file be wrong, and be found so."""
    blob = store.find(digest)
    assert blob is not None
    blob.path.chmod(0o644)
    blob.path.write_bytes(b"something else")
    assert await store.scrub.prove(digest, lambda at, size: None)


async def test_a_blob_is_fetched_again_once_from_its_repository(
    store: BlobStore, mending: Mending, held: Digest, upstream: FakeRegistry, tag: Reference
) -> None:
    """A layer and a manifest alike; the image is whole then, and nothing else was asked for."""
    layer = (await store.children(held))[-1].digest
    for digest, path in ((layer, f"blobs/{layer}"), (held, f"manifests/{held}")):
        await spoil(store, digest)
        asked = len(upstream.lines(""))
        await mending.work()
        name = await store.resolve(str(tag))

        assert [f"GET /v2/team/app/{path}"] == upstream.lines("")[asked:]
        assert (True, True) == (store.find(digest) is not None, name and name.complete)
    assert {"fetched": 2} == mending.counts


async def test_what_cannot_be_had_for_now_is_tried_again(
    store: BlobStore, mending: Mending, held: Digest, upstream: FakeRegistry
) -> None:
    """A registry that fails is asked later; one that says no is not asked again."""
    layer = (await store.children(held))[-1].digest
    await spoil(store, layer)
    upstream.answer(str(layer), 503, times=None)
    for _ in range(3):
        await mending.work()
        mending.again()
    waits = dict(mending.counts)
    upstream.faults.clear()
    upstream.answer(str(layer), 404, times=None)
    await mending.work()
    mending.again()
    asked = len(upstream.lines(""))
    await mending.work()

    assert ({}, {"left": 1}) == (waits, mending.counts)
    assert asked == len(upstream.lines(""))


async def test_nobody_is_asked_for_what_no_image_needs(
    store: BlobStore, mending: Mending, held: Digest, upstream: FakeRegistry, tag: Reference
) -> None:
    """Nor for what has no registry; that is said to be left."""
    layer = (await store.children(held))[-1].digest
    await store.untag(str(tag))
    await spoil(store, layer)
    content = b"of this node alone"
    own = Descriptor.of("text/plain", content)
    await store.put(content, own, repository="localhost/app")
    await store.tag("localhost/app:1", "localhost/app", own)
    await spoil(store, own.digest)
    asked = len(upstream.lines(""))
    await mending.work()

    assert asked == len(upstream.lines(""))
    assert (None, None) == (store.find(layer), store.find(own.digest))
    assert {"left": 1} == mending.counts
