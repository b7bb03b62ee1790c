"""What is attached to an image: found wherever it is listed, in layouts, caches and registries."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cache.content import Descriptor, Digest
from cache.store import BlobStore
from registryd.images.layout import LayoutSink, LayoutSource
from registryd.oci.errors import BlobUnknown, ManifestInvalid
from registryd.oci.manifest import Document, IndexEntry, parse
from registryd.oci.reference import Reference
from registryd.oci.referrers import entry_of, fallback_tag, with_entry
from registryd.ports import Referring
from registryd.transfer import referrers
from registryd.transfer.cached import CachedSink, CachedSource
from registryd.transfer.copy import copy_image
from registryd.transfer.endpoints import RegistrySource
from registryd.transfer.library import Library
from registryd.transfer.referrers import Rooted, attached_to
from tests.fakes.endpoints import MemorySink, MemorySource, image
from tests.fakes.referrers import ReferrersRegistry, make_artifact
from tests.transfer.conftest import Connect

IMAGE = image(b"layer")
ROOT = IMAGE.root
EMPTY = Descriptor.of("application/vnd.oci.empty.v1+json", b"{}")


def artifact(subject: Document, kind: str = "text/sbom", **notes: str) -> Document:
    return parse(make_artifact(subject.raw, kind, **notes))


SBOM = artifact(ROOT)
SIGNATURE = artifact(SBOM, "text/signature")
OTHER = artifact(ROOT, "text/signature")


@dataclass
class Listed(MemorySource):
    """A source that lists these."""

    lists: dict[Digest, tuple[IndexEntry, ...]] = field(default_factory=dict)

    def attach(self, *documents: Document) -> Listed:
        """Put these there, listed with their subjects."""
        for document in documents:
            assert document.subject is not None
            self.sample.documents[document.digest] = document
            self.list(document, document.subject.digest)
        return self

    def list(self, document: Document, subject: Digest) -> None:
        """List a document with a subject, whatever it says itself."""
        self.lists[subject] = (*self.lists.get(subject, ()), entry_of(document))

    async def referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        """What is listed."""
        return self.lists.get(digest, ())


@pytest.fixture
def source() -> Listed:
    return Listed(image(b"layer"))


async def test_the_nearest_first(source: Listed) -> None:
    """What is attached to what is attached comes along, each once, with its distance."""
    source.attach(SIGNATURE, SBOM, OTHER)
    source.list(SBOM, ROOT.digest)
    found = await attached_to(source, [ROOT.digest])

    assert [SBOM, OTHER, SIGNATURE] == [each.document for each in found]
    assert [(ROOT.digest, 1), (ROOT.digest, 1), (SBOM.digest, 2)] == [
        (each.subject, each.depth) for each in found
    ]
    assert [SBOM, OTHER] == [e.document for e in await attached_to(source, [ROOT.digest], depth=1)]


async def test_of_one_type(source: Listed) -> None:
    """The type narrows the first step; what is attached to those comes along."""
    source.attach(SIGNATURE, SBOM, OTHER)
    found = await attached_to(source, [ROOT.digest], artifact_type="text/sbom")

    assert [SBOM, SIGNATURE] == [each.document for each in found]


async def test_lists_that_lie(source: Listed) -> None:
    """What is attached to something else, and what is not there, is passed over."""
    source.attach(SBOM)
    source.list(SIGNATURE, ROOT.digest)  # is not there
    strange = artifact(image(b"another").root)
    source.sample.documents[strange.digest] = strange
    source.list(strange, ROOT.digest)

    assert [SBOM] == [each.document for each in await attached_to(source, [ROOT.digest])]


async def test_loops_and_limits(source: Listed) -> None:
    """Lists that lead back end; too much is refused."""
    source.attach(SBOM)
    source.list(ROOT, SBOM.digest)
    source.list(SBOM, SBOM.digest)

    assert 1 == len(await attached_to(source, [ROOT.digest]))

    large = Descriptor(SBOM.media_type, Digest.of(b"large"), referrers.BYTES_LIMIT + 1)
    source.lists[ROOT.digest] = (IndexEntry(large),)
    with pytest.raises(ManifestInvalid, match="too many"):
        await attached_to(source, [ROOT.digest])


async def test_an_artifact_is_copied_like_an_image(source: Listed) -> None:
    """Its manifest is the root of what is copied, with its blobs."""
    source.attach(SBOM)
    source.sample.blobs[EMPTY.digest] = b"{}"
    (found,) = await attached_to(source, [ROOT.digest])
    sink = MemorySink()
    await copy_image(Rooted(source, found.document), sink)

    assert (SBOM, {EMPTY.digest: b"{}"}) == (sink.root, sink.blobs)


async def test_in_a_layout(tmp_path: Path) -> None:
    """Entries of index.json whose manifest has the subject, and the tag that lists them."""
    await copy_image(MemorySource(IMAGE), LayoutSink(tmp_path / "l", "1"))
    for document in (SBOM, SIGNATURE):
        await LayoutSink(tmp_path / "l").put_manifest(document, root=True)
    by_tag = with_entry(None, entry_of(OTHER))
    await LayoutSink(tmp_path / "l").put_manifest(OTHER, root=False)
    await LayoutSink(tmp_path / "l", fallback_tag(ROOT.digest)).put_manifest(by_tag, root=True)
    source = LayoutSource(tmp_path / "l", "1")
    checked: Referring = source
    found = await attached_to(checked, [ROOT.digest])

    assert {SBOM, OTHER, SIGNATURE} == {each.document for each in found}
    assert {entry_of(SBOM), entry_of(OTHER)} == set(await source.referrers(ROOT.digest))

    # What index.json names and is gone does not hide the rest.
    gone = tmp_path / "l/blobs/sha256" / SBOM.digest.hex
    gone.unlink()
    with pytest.raises(BlobUnknown):
        await source.manifest(SBOM.descriptor)

    assert (entry_of(OTHER),) == await source.referrers(ROOT.digest)


async def test_in_the_cache(library: Library, store: BlobStore) -> None:
    """The cache knows what was pushed or pulled into the repository."""
    name = Reference.parse("localhost/app:1")
    await copy_image(MemorySource(IMAGE), CachedSink(library, store, name))
    sample = image()
    sample.blobs[EMPTY.digest] = b"{}"
    noted = artifact(ROOT, "text/sbom", made="here")
    for document in (noted, artifact(noted, "a/b")):
        sink = CachedSink(library, store, name.with_digest(document.digest))
        await copy_image(Rooted(MemorySource(sample), document), sink)
    source: Referring = CachedSource(library, store, name)
    found = await attached_to(source, [ROOT.digest])

    assert [(noted, 1), (artifact(noted, "a/b"), 2)] == [(e.document, e.depth) for e in found]
    assert entry_of(noted) == found[0].entry


@pytest.mark.parametrize("api", [True, False])
async def test_in_a_registry(connect: Connect, api: bool) -> None:
    """By the API, or by the tag."""
    async with ReferrersRegistry(api=api).serve() as server:
        server.add_manifest("team/app", "1", ROOT.raw)
        if api:
            server.attach("team/app", ROOT.raw)
        else:
            index = with_entry(None, entry_of(SBOM))
            server.add_manifest("team/app", "", SBOM.raw)
            server.add_manifest("team/app", fallback_tag(ROOT.digest), index.raw, index.media_type)
        name = Reference(server.name, "team/app", "1")
        source: Referring = RegistrySource(await connect(server), name)
        found = await attached_to(source, [ROOT.digest])

    assert [json.loads(SBOM.raw)] == [json.loads(each.document.raw) for each in found]
