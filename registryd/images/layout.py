"""OCI image layouts, ``oci:DIR[:TAG]`` (image specification 1.1, "Image Layout").

Invariants:
- a layout is only added to: other tags, members and annotations of index.json that we do not know
  stay as they are, and the same tag is replaced;
- index.json is replaced in one step, under a lock, after everything that it names is on disk;
- a layout may change while it is read (a live cache root): index.json is read once per image, and
  content is only ever found by digest.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

from typing_extensions import override

from cache.content import Descriptor, Digest
from registryd.images.completeness import is_complete
from registryd.images.errors import NotAnImage, path_faults
from registryd.images.files import (
    holds,
    in_thread,
    is_vacant,
    open_blob,
    read_document,
    read_small,
    write_blob,
    write_small,
)
from registryd.images.referrers import find_referrers
from registryd.images.words import position_of
from registryd.oci import fields
from registryd.oci.errors import ManifestUnknown, UsageError
from registryd.oci.manifest import Document, IndexEntry, parse
from registryd.oci.media_types import OCI_INDEX
from registryd.ports import Body, BodyOpener

REF_NAME: Final = "org.opencontainers.image.ref.name"
#: Where docker and containerd write the full name; there ref.name is the bare tag.
FULL_NAME: Final = "io.containerd.image.name"
LAYOUT_VERSION: Final = "1.0.0"
#: Largest index.json: room for a cache root with tens of thousands of names.
INDEX_LIMIT: Final = 64 << 20
MARK_LIMIT: Final = 4096
#: How many tags an error line lists.
_LISTED: Final = 20


class LayoutSource:
    """One image of a layout: the one with this tag, or the only one (a ``ports.Source``)."""

    def __init__(self, path: Path, tag: str = "") -> None:
        self._path = path
        self._tag = tag

    async def root(self) -> Document:
        """The image's manifest or index.

        Raises NotAnImage, ManifestUnknown (which lists the tags there are), and as manifest does.
        """
        return await in_thread(self._root)

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child manifest. Raises BlobUnknown, SizeMismatch, DigestMismatch, ManifestInvalid."""
        return await in_thread(self._document, descriptor)

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A config or layer. Raises BlobUnknown, SizeMismatch, PathUnusable on entering."""
        return open_blob(blob_path(self._path, descriptor.digest), descriptor)

    async def referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        """What the layout lists as attached to a manifest (``ports.Referring``).

        Raises NotAnImage, and as manifest does.
        """
        return await in_thread(self._referrers, digest)

    def _referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        check_layout(self._path)
        listed = entries_of(read_index(self._path) or {}, self._path)
        return find_referrers(digest, listed, self._document)

    def _root(self) -> Document:
        check_layout(self._path)
        listing = read_index(self._path)
        if listing is None:
            raise NotAnImage(f"{self._path} has no index.json: nothing was copied to it whole yet")
        return self._document(choose(listing, self._path, self._tag))

    def _document(self, descriptor: Descriptor) -> Document:
        raw = read_document(blob_path(self._path, descriptor.digest), descriptor)
        return parse(raw, descriptor.media_type, descriptor.digest)


class LayoutSink:
    """A layout to copy one image to, under this tag or without one.

    A ``ports.Sink`` that is ``Surveyed``.
    """

    def __init__(self, path: Path, tag: str = "") -> None:
        self._path = path
        self._tag = tag

    async def standing(self) -> Descriptor | None:
        """What the tag means now. Raises NotAnImage, UsageError."""
        return await in_thread(self._standing)

    async def has_whole(self, descriptor: Descriptor) -> bool:
        """Whether the manifest is there, with all that it points to."""
        return await in_thread(is_complete, descriptor, self._document, self._has_blob)

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, by name and size. Raises NotAnImage, UsageError."""
        return await in_thread(self._has_blob, descriptor)

    async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
        """Take one blob. Raises SizeMismatch, DigestMismatch, NotAnImage, DiskFull, UsageError."""
        await in_thread(self._prepare)
        await write_blob(blob_path(self._path, descriptor.digest), descriptor, open_body)

    async def put_manifest(self, document: Document, *, root: bool) -> None:
        """Take a manifest; the root is entered in index.json. Raises as put_blob does."""
        await in_thread(self._put_manifest, document, root)

    def _standing(self) -> Descriptor | None:
        check_target(self._path)
        listing = read_index(self._path) if self._tag else None
        try:
            return None if listing is None else choose(listing, self._path, self._tag)
        except ManifestUnknown:
            return None

    def _document(self, descriptor: Descriptor) -> Document:
        raw = read_document(blob_path(self._path, descriptor.digest), descriptor)
        return parse(raw, descriptor.media_type, descriptor.digest)

    def _has_blob(self, descriptor: Descriptor) -> bool:
        check_target(self._path)
        return holds(blob_path(self._path, descriptor.digest), descriptor.size)

    def _prepare(self) -> None:
        check_target(self._path)
        if not (self._path / "oci-layout").exists():
            mark = json.dumps({"imageLayoutVersion": LAYOUT_VERSION}, separators=(",", ":"))
            write_small(self._path / "oci-layout", mark.encode())

    def _put_manifest(self, document: Document, root: bool) -> None:
        self._prepare()
        write_small(blob_path(self._path, document.digest), document.raw)
        if root:
            with _locked(self._path):
                listing = read_index(self._path) or {}
                merged = json.dumps(enter(listing, document, self._tag), separators=(",", ":"))
                write_small(self._path / "index.json", merged.encode())

    @override
    def __str__(self) -> str:
        return f"oci:{self._path}" + (f":{self._tag}" if self._tag else "")


def blob_path(root: Path, digest: Digest) -> Path:
    """Where a layout keeps this digest (image specification 1.1, "Image Layout", "Blobs")."""
    return root / "blobs" / digest.algorithm / digest.hex


def check_layout(root: Path) -> None:
    """Raise NotAnImage unless this is an OCI layout of a version we know."""
    with path_faults(root):
        if not root.is_dir():
            raise NotAnImage(f"{root} is not a folder, so it is no OCI layout")
    check_mark(read_small(root / "oci-layout", MARK_LIMIT), root)


def check_mark(raw: bytes | None, root: Path) -> None:
    """Raise NotAnImage unless this is what the file oci-layout has to hold."""
    if raw is None:
        raise NotAnImage(f"{root} is not an OCI layout: it has no file oci-layout")
    try:
        version = fields.text(fields.load(raw), "imageLayoutVersion")
    except fields.Malformed as error:
        raise NotAnImage(f"{root}/oci-layout is not usable: {error}") from None
    if not version.startswith("1."):
        raise NotAnImage(f"{root} is an OCI layout of version {version[:40]!r} (1.x is understood)")


def check_target(root: Path) -> None:
    """Raise NotAnImage or UsageError unless an image may be written here."""
    if is_vacant(root):
        return
    if (root / "cache.db").exists():
        raise UsageError(f"{root} is a cache root, which only registryd writes; use cache:NAME")
    check_layout(root)


def read_index(root: Path) -> dict[str, object] | None:
    """index.json, a list of objects at the least; None where it is missing. Raises NotAnImage."""
    raw = read_small(root / "index.json", INDEX_LIMIT)
    return None if raw is None else parse_index(raw, root)


def parse_index(raw: bytes, root: Path) -> dict[str, object]:
    """What index.json holds, a list of objects at the least. Raises NotAnImage."""
    with _index_faults(root):
        listing = fields.load(raw)
        _entries(listing)
    return listing


def choose(listing: dict[str, object], root: Path, tag: str, *, form: str = "oci") -> Descriptor:
    """The descriptor with this tag, the Nth for the tag ``@N``, or the only one.

    Raises ManifestUnknown, NotAnImage.
    """
    entries = _entries(listing)
    chosen = _chosen(entries, tag)
    with _index_faults(root):
        found = {fields.descriptor(entry, "an entry of manifests") for entry in chosen}
    if len(found) == 1:
        return found.pop()
    tags = sorted({name for entry in entries for name in entry_names(entry)[:1]})
    place = f"the {'layout' if form == 'oci' else 'archive'} {root}"
    if not entries:
        raise ManifestUnknown(f"{place} holds no image")
    if not tag:
        raise ManifestUnknown(
            f"{place} holds {len(entries)} images; write {form}:{root}:TAG (tags: {some(tags)})"
        )
    if found:
        raise ManifestUnknown(f"{place} has several images with the tag {tag!r}")
    raise ManifestUnknown(f"{place} has no image with the tag {tag!r} (tags: {some(tags)})")


async def layout_tags(root: Path) -> list[str]:
    """The tags of a layout, sorted. Raises NotAnImage."""
    return sorted({names[0] for _, names in await in_thread(_listed, root) if names})


def _listed(root: Path) -> list[tuple[Descriptor, list[str]]]:
    check_layout(root)
    return entries_of(read_index(root) or {}, root)


def some(names: Sequence[str]) -> str:
    """The first of these names, for an error line."""
    return (", ".join(names[:_LISTED]) or "none") + (", ..." if len(names) > _LISTED else "")


def entries_of(listing: dict[str, object], root: Path) -> list[tuple[Descriptor, list[str]]]:
    """What an index.json lists, with names and tags. Raises NotAnImage."""
    with _index_faults(root):
        return [
            (fields.descriptor(entry, "an entry of manifests"), entry_names(entry))
            for entry in _entries(listing)
        ]


def _chosen(entries: list[dict[str, object]], tag: str) -> list[dict[str, object]]:
    position = position_of(tag)
    if position is not None:
        return entries[position : position + 1]
    if tag:
        return [entry for entry in entries if tag in entry_names(entry)]
    # What is attached to an image lies beside it, and is not meant where an image is.
    return [entry for entry in entries if not entry.get("artifactType")] or entries


def enter(listing: dict[str, object], document: Document, tag: str) -> dict[str, object]:
    """This index.json with the document entered under a tag, or without one."""
    entry = entry_of(document)
    if tag:
        entry["annotations"] = {REF_NAME: tag}
    others = [other for other in _entries(listing) if not _same_place(other, entry, tag)]
    head: dict[str, object] = {"schemaVersion": 2, "mediaType": OCI_INDEX}
    return {**head, **listing, "manifests": [*others, entry]}


def entry_of(document: Document) -> dict[str, object]:
    """A document as index.json lists it; what is attached always has a type, and so is known."""
    descriptor = document.descriptor
    entry: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    attached = document.referrer_type if document.subject is not None else ""
    if document.artifact_type or attached:
        entry["artifactType"] = document.artifact_type or attached
    return entry


def _same_place(other: dict[str, object], entry: dict[str, object], tag: str) -> bool:
    name = _annotations(other).get(REF_NAME, "")
    return name == tag and (bool(tag) or other.get("digest") == entry["digest"])


def _entries(listing: dict[str, object]) -> list[dict[str, object]]:
    value = listing.get("manifests") or []
    if not isinstance(value, list):
        raise fields.Malformed("manifests must be a list")
    return [fields.mapping(entry, f"manifests[{at}]") for at, entry in enumerate(value)]


def entry_names(entry: dict[str, object]) -> list[str]:
    """The tag and the name of an entry, where it has them."""
    annotations = _annotations(entry)
    return [name for key in (REF_NAME, FULL_NAME) if (name := annotations.get(key))]


def _annotations(entry: dict[str, object]) -> dict[str, str]:
    value = entry.get("annotations")
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}


@contextmanager
def _index_faults(root: Path) -> Iterator[None]:
    try:
        yield
    except fields.Malformed as error:
        raise NotAnImage(f"{root}/index.json is not usable: {error}") from None


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Keep two writers of index.json apart; the lock is the folder's, so no file is left over."""
    with path_faults(root):
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
