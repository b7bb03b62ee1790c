"""RegistrySource and RegistrySink: what they ask of a Remote, and how a broken body goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch, SizeMismatch
from registryd.config import TransferConfig
from registryd.oci.errors import BadAnswer, ManifestUnknown
from registryd.oci.manifest import Document, Index, listing
from registryd.oci.media_types import OCI_LAYER
from registryd.oci.reference import Reference
from registryd.ports import Body, BodyOpener, Remote, Skipping, TransportError
from registryd.transfer.copy import copy_image
from registryd.transfer.endpoints import RegistrySink, RegistrySource
from tests.fakes.endpoints import MemoryBody, MemorySink, MemorySource, Sample, image, index

CONTENT = bytes(range(256)) * 1000
NAME = Reference.parse("registry.example/team/app:1")


@dataclass
class FakeRemote:
    """One registry in memory; ``answers`` scripts its bodies, ``log`` is what was asked."""

    sample: Sample
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    pushed: dict[str, Document] = field(default_factory=dict)
    others: dict[tuple[str, Digest], bytes] = field(default_factory=dict)
    answers: list[Callable[[int], Body]] = field(default_factory=list)
    log: list[tuple[object, ...]] = field(default_factory=list)
    open_now: int = 0
    open_most: int = 0

    async def resolve(self, reference: Reference) -> Descriptor:
        """The descriptor of what was pushed under this name."""
        if str(reference) not in self.pushed:
            raise ManifestUnknown(f"cannot find {reference}")
        return self.pushed[str(reference)].descriptor

    async def fetch_manifest(self, reference: Reference) -> Document:
        """A document by digest, or the root."""
        self.log.append(("manifest", str(reference)))
        if reference.digest:
            return self.sample.documents[reference.digest]
        return self.sample.root

    @asynccontextmanager
    async def fetch_blob(
        self, repository: Reference, digest: Digest, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[Body]:
        """The next scripted answer, or the blob."""
        self.log.append(("blob", str(repository), start))
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            yield (
                self.answers.pop(0)(start)
                if self.answers
                else MemoryBody(self.sample.blobs[digest][start:], start=start, source="host")
            )
        finally:
            self.open_now -= 1

    async def blob_size(self, repository: Reference, digest: Digest) -> int | None:
        """The blob's size."""
        return len(self.sample.blobs[digest])

    async def standing(self, reference: Reference) -> Descriptor:
        """The same: it has no mirrors."""
        return await self.resolve(reference)

    async def has_blob(self, repository: Reference, digest: Digest) -> bool:
        """Whether it was pushed."""
        return digest in self.blobs

    async def mount_blob(self, repository: Reference, digest: Digest, source: str) -> bool:
        """Take it from another repository, where it is there."""
        self.log.append(("mount", str(repository), source))
        return (source, digest) in self.others

    async def push_blob(
        self, repository: Reference, descriptor: Descriptor, open_body: BodyOpener
    ) -> None:
        """Take it."""
        async with open_body() as body:
            self.blobs[descriptor.digest] = b"".join([piece async for piece in body])

    async def push_manifest(self, reference: Reference, document: Document) -> None:
        """Take it."""
        self.pushed[str(reference)] = document

    async def tags(
        self, repository: Reference, *, last: str = "", limit: int | None = None
    ) -> list[str]:
        """No tags."""
        return []

    async def referrers(
        self, repository: Reference, digest: Digest, *, artifact_type: str = "", way: str = ""
    ) -> Index:
        """Nothing is attached to anything."""
        return listing(())

    async def note_subject(self, repository: Reference, document: Document) -> None:
        """Write it down."""
        self.log.append(("note", str(repository), document.digest))

    async def catalog(self, *, last: str = "", limit: int | None = None) -> list[str]:
        """No repositories."""
        return []

    async def delete_manifest(self, reference: Reference) -> bool:
        """Never there."""
        return False

    async def delete_blob(self, repository: Reference, digest: Digest) -> bool:
        """Never there."""
        return False

    async def ping(self) -> None:
        """Always there."""


def remote_of(sample: Sample) -> FakeRemote:
    """A registry that holds this sample."""
    remote = FakeRemote(sample)
    checked: Remote = remote
    assert checked is remote
    return remote


class Breaking(MemoryBody):
    """A body that breaks off after its bytes."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in super().__aiter__():
            yield piece
        raise TransportError("host: connection reset")


def breaking(start: int, stop: int) -> Callable[[int], Body]:
    """An answer with these bytes of CONTENT that then breaks off."""
    return lambda asked: Breaking(CONTENT[start:stop], start=start)


async def read(remote: FakeRemote) -> bytes:
    """The layer CONTENT as the source gives it."""
    source = RegistrySource(remote, NAME, TransferConfig(attempts=3))
    async with source.blob(Descriptor.of(OCI_LAYER, CONTENT)) as body:
        return b"".join([piece async for piece in body])


class TestSource:
    """Reading from a registry."""

    async def test_a_whole_image(self) -> None:
        """Root by name, children by digest, blobs by the bare repository."""
        sample, sink = index(amd64=image(CONTENT)), MemorySink()
        remote = remote_of(sample)
        await copy_image(RegistrySource(remote, NAME), sink)

        assert (sample.root, sample.blobs) == (sink.root, sink.blobs)
        assert ("manifest", str(NAME)) == remote.log[0]
        assert ("manifest", f"{NAME.name}@{sample.root.children[0].digest}") == remote.log[1]
        assert {("blob", NAME.name, 0)} == set(remote.log[2:])

    async def test_a_child_of_another_size_is_refused(self) -> None:
        """The descriptor that points to a manifest also says its size."""
        sample = index(amd64=image(CONTENT))
        child = sample.root.children[0]
        wrong = Descriptor(child.media_type, child.digest, child.size + 1)
        with pytest.raises(SizeMismatch):
            await RegistrySource(remote_of(sample), NAME).manifest(wrong)

    async def test_a_broken_body_goes_on_where_it_was(self) -> None:
        """After a break only the rest is asked for, and the old connection is closed."""
        remote = remote_of(image(CONTENT))
        remote.answers = [breaking(0, 1000), breaking(1000, 70_000)]
        content = await read(remote)

        assert CONTENT == content
        assert [0, 1000, 70_000] == [entry[2] for entry in remote.log]
        assert (0, 1) == (remote.open_now, remote.open_most)

    async def test_a_source_that_ignores_the_range(self) -> None:
        """A source that sends everything again is read from the byte that was reached."""
        remote = remote_of(image(CONTENT))
        remote.answers = [breaking(0, 1000), lambda asked: MemoryBody(CONTENT)]

        assert CONTENT == await read(remote)

    async def test_a_break_after_the_last_byte(self) -> None:
        """A blob that is whole needs no further connection."""
        remote = remote_of(image(CONTENT))
        remote.answers = [breaking(0, len(CONTENT))]

        assert CONTENT == await read(remote)
        assert 1 == len(remote.log)

    async def test_breaks_without_a_byte_between_end_it(self) -> None:
        """The body's error comes out after as many fruitless connections as are configured."""
        remote = remote_of(image(CONTENT))
        remote.answers = [breaking(0, 0)] * 4
        with pytest.raises(TransportError, match="reset"):
            await read(remote)

        assert (1, 0) == (len(remote.answers), remote.open_now)

    async def test_progress_forgives_breaks(self) -> None:
        """Many breaks are fine as long as bytes come between them."""
        remote = remote_of(image(CONTENT))
        remote.answers = [breaking(n * 1000, (n + 1) * 1000) for n in range(20)]

        assert CONTENT == await read(remote)

    async def test_a_range_that_was_not_asked_is_refused(self) -> None:
        """A body that begins after the byte asked for would leave a hole."""
        remote = remote_of(image(CONTENT))
        remote.answers = [lambda asked: MemoryBody(CONTENT[5:], start=5)]
        with pytest.raises(BadAnswer):
            await read(remote)


class TestSink:
    """Writing to a registry."""

    async def test_a_whole_image(self) -> None:
        """The root goes under the tag, its children under their digests."""
        sample = index(amd64=image(CONTENT))
        remote = remote_of(sample)
        await copy_image(MemorySource(sample), RegistrySink(remote, NAME))
        child = sample.root.children[0].digest

        assert sample.blobs == remote.blobs
        assert [f"{NAME.name}@{child}", str(NAME)] == list(remote.pushed)

    async def test_a_name_with_neither_tag_nor_digest(self) -> None:
        """Without a tag the root goes under its digest."""
        sample = image(b"x")
        remote = remote_of(sample)
        await copy_image(MemorySource(sample), RegistrySink(remote, NAME.bare()))

        assert [f"{NAME.name}@{sample.root.digest}"] == list(remote.pushed)

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    async def test_a_name_with_the_roots_digest(self, algorithm: str) -> None:
        """A destination may say which digest it expects."""
        sample = image(b"x")
        remote = remote_of(sample)
        name = NAME.with_digest(Digest.of(sample.root.raw, algorithm))
        await copy_image(MemorySource(sample), RegistrySink(remote, name))

        assert [str(name)] == list(remote.pushed)

    async def test_a_name_with_another_digest(self) -> None:
        """A destination's digest that is not the root's is refused before anything is named."""
        sample = image(b"x")
        remote = remote_of(sample)
        name = NAME.with_digest(Digest.of(b"another"))
        with pytest.raises(DigestMismatch):
            await copy_image(MemorySource(sample), RegistrySink(remote, name))

        assert {} == remote.pushed

    async def test_blobs_are_mounted_where_that_works(self) -> None:
        """Told of a repository on the same registry, a blob is mounted; the rest is uploaded."""
        sample = image(b"there", b"not there")
        remote = remote_of(sample)
        there = Descriptor.of(OCI_LAYER, b"there")
        remote.others["team/base", there.digest] = b"there"
        sink = RegistrySink(remote, NAME, mount_from="team/base")
        copied = await copy_image(MemorySource(sample), sink)

        assert (2, 1) == (copied.sent_blobs, copied.held_blobs)
        assert there.digest not in remote.blobs

    async def test_nothing_is_mounted_from_itself(self) -> None:
        """A copy within one repository has nothing to mount from."""
        sample = image(b"x")
        remote = remote_of(sample)
        sink = RegistrySink(remote, NAME, mount_from=NAME.repository)
        await copy_image(MemorySource(sample), sink)

        assert [] == remote.log


async def test_an_upload_that_goes_on_reads_the_rest_only() -> None:
    """Through a copy, a registry is asked for the bytes from the one that is wanted first."""
    remote = remote_of(image(CONTENT))
    taken: dict[Digest, bytes] = {}

    class Further(MemorySink):
        """A sink that has the first half of everything."""

        async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
            async with open_body() as body:
                assert isinstance(body, Skipping)
                assert await body.skip_to(descriptor.size // 2)
                taken[descriptor.digest] = b"".join([piece async for piece in body])

    await copy_image(RegistrySource(remote, NAME), Further())
    half = len(CONTENT) // 2

    assert CONTENT[half:] == taken[Digest.of(CONTENT)]
    assert ("blob", NAME.name, half) in remote.log
    assert 0 == remote.open_now
