"""The cache as a place to copy from and to."""

import asyncio
import os
from pathlib import Path

import pytest

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch, SizeMismatch
from cache.store import BlobStore
from registryd.oci.errors import BlobUnknown, ManifestUnknown
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.transfer.cached import READ, CachedSink, CachedSource
from registryd.transfer.copy import copy_image
from registryd.transfer.library import Library
from tests.fakes.endpoints import MemorySink, MemorySource, image
from tests.fakes.registry import OCI_LAYER, FakeRegistry
from tests.fakes.waiting import until

OWN = Reference("localhost", "app", "1")
LAYER = os.urandom(READ + 1000)


@pytest.fixture
def sink(library: Library, store: BlobStore) -> CachedSink:
    return CachedSink(library, store, OWN)


@pytest.fixture
def source(library: Library, store: BlobStore) -> CachedSource:
    return CachedSource(library, store, OWN)


async def test_what_goes_in_comes_out(
    sink: CachedSink, source: CachedSource, store: BlobStore
) -> None:
    """An image copied into the cache and out again is the same, byte for byte, and has its name."""
    sample = image(LAYER, b"small")
    await copy_image(MemorySource(sample), sink)
    out = MemorySink()
    await copy_image(source, out)

    assert (sample.root.raw, sample.blobs) == (out.root.raw, out.blobs)  # type: ignore[union-attr]
    assert [(str(OWN), True)] == [(name.name, name.complete) for name in await store.names()]


async def test_what_is_held_is_not_written_again(sink: CachedSink, store: BlobStore) -> None:
    """A blob that the cache holds is only made a member of the repository."""
    sample = image(LAYER)
    await copy_image(MemorySource(sample), sink)
    again = MemorySource(sample)
    other = CachedSink(sink._library, store, Reference("localhost", "other", "1"))
    await copy_image(again, other)

    assert [] == again.opened
    assert await store.is_member("localhost/other", Digest.of(LAYER))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (Descriptor(OCI_LAYER, Digest.of(b"else"), len(LAYER)), DigestMismatch),
        (Descriptor(OCI_LAYER, Digest.of(LAYER), len(LAYER) + 1), SizeMismatch),
        (Descriptor(OCI_LAYER, Digest.of(LAYER), len(LAYER) - 1), SizeMismatch),
    ],
)
async def test_what_is_not_what_it_is_said_to_be(
    sink: CachedSink, store: BlobStore, said: Descriptor, error: type[Exception]
) -> None:
    """Wrong content is refused and leaves nothing."""
    content = MemorySource(image(LAYER))
    true = Descriptor(OCI_LAYER, Digest.of(LAYER), len(LAYER))

    with pytest.raises(error):
        await sink.put_blob(said, lambda: content.blob(true))
    assert ([], 0) == (list((store.root / "ingest").iterdir()), len(store))


async def test_a_cancelled_put_leaves_nothing(sink: CachedSink, store: BlobStore) -> None:
    """A copy that is cancelled in the middle of a blob leaves nothing of it."""
    true = Descriptor(OCI_LAYER, Digest.of(LAYER), len(LAYER))
    content = MemorySource(image(LAYER), gates={true.digest: asyncio.Event()})
    putting = asyncio.create_task(sink.put_blob(true, lambda: content.blob(true)))
    await until(lambda: content.opened)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting

    assert ([], []) == (list((store.root / "ingest").iterdir()), store.arriving())


async def test_a_name_without_tag_is_set_by_digest(library: Library, store: BlobStore) -> None:
    """An image put under no tag is named by its digest."""
    sample = image(b"x")
    await copy_image(
        MemorySource(sample), CachedSink(library, store, Reference("localhost", "app"))
    )

    assert [f"localhost/app@{sample.root.digest}"] == [n.name for n in await store.names()]


async def test_without_a_remote_only_what_is_held(source: CachedSource) -> None:
    """What the cache lacks cannot be copied out of it."""
    with pytest.raises(ManifestUnknown):
        await source.root()
    with pytest.raises(BlobUnknown):
        async with source.blob(Descriptor(OCI_LAYER, Digest.of(LAYER), len(LAYER))):
            pass


async def test_with_a_remote_what_is_missing_is_fetched(
    library: Library, store: BlobStore, remote: RegistryClient, upstream: FakeRegistry
) -> None:
    """A source with a registry behind it makes present what it is asked for."""
    upstream.add_image("team/app", "1", LAYER)
    reference = Reference(upstream.name, "team/app", "1")
    out = MemorySink()
    await copy_image(CachedSource(library, store, reference, remote), out)

    assert LAYER == out.blobs[Digest.of(LAYER)]
    assert store.find(Digest.of(LAYER)) is not None


async def test_a_file_that_became_shorter_is_an_error(
    sink: CachedSink, source: CachedSource, store: BlobStore
) -> None:
    """A blob whose file lost its end is not given as if it were whole."""
    await copy_image(MemorySource(image(LAYER)), sink)
    blob = store.find(Digest.of(LAYER))
    assert blob is not None
    path: Path = blob.path
    path.chmod(0o644)
    os.truncate(path, READ)

    with pytest.raises(SizeMismatch):
        async with source.blob(Descriptor(OCI_LAYER, Digest.of(LAYER), len(LAYER))) as body:
            assert [READ] == [len(piece) async for piece in body]
