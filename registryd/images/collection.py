"""All images of a file: an archive, a layout or a ``dir:`` folder, whichever it turns out to be.

Invariant: each image is found under the names that its file gives it, and read from the one file
that was opened: a pipe is read once, however many images are in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cache.content import Digest
from cache.errors import DigestInvalid
from registryd.images.archive import TarArchive, open_archive
from registryd.images.archive_source import ArchiveSource, DockerArchiveSource, read_index
from registryd.images.docker_archive import LISTING, read_listing
from registryd.images.errors import NotAnImage, path_faults
from registryd.images.files import in_thread
from registryd.images.folder import FolderSource
from registryd.images.layout import LayoutSource, check_layout, entries_of
from registryd.images.layout import read_index as read_layout_index
from registryd.images.transports import ImageLocation, Transport
from registryd.images.words import STREAM
from registryd.oci.errors import ReferenceInvalid
from registryd.oci.media_types import DOCUMENTS
from registryd.oci.reference import Reference
from registryd.ports import Source

_PREFIXES: Final = ("oci:", "ocidir://", "dir:", "oci-archive:", "docker-archive:")


@dataclass(frozen=True, slots=True)
class FoundImage:
    """One image of a file: whole names, bare tags, and where to read it."""

    source: Source
    names: tuple[Reference, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What a person named: a path, and the form and the image in it where they said them."""

    path: Path
    transport: Transport | None = None
    tag: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageFile:
        """A file form, or a bare path. Raises UsageError, ReferenceInvalid."""
        if text.startswith(_PREFIXES):
            location = ImageLocation.parse(text)
            if location.path is not None:
                return cls(location.path, location.transport, location.tag)
        return cls(Path(text))


@asynccontextmanager
async def open_images(file: ImageFile, *, spool: Path) -> AsyncIterator[list[FoundImage]]:
    """The images of a file, or the one that it names, in their order there.

    Raises NotAnImage, ManifestUnknown (on reading), PathUnusable, DiskFull, UsageError.
    """
    transport = file.transport or await in_thread(_folder_form, file.path)
    if transport == "dir":
        yield [FoundImage(FolderSource(file.path))]
    elif transport == "oci":
        yield await in_thread(_layout, file)
    else:
        async with open_archive(file.path, spool=spool) as archive:
            yield await in_thread(_archive, archive, file)


def _folder_form(path: Path) -> Transport | None:
    """What kind of folder this is; None for a file. Raises NotAnImage."""
    with path_faults(path):
        if str(path) == STREAM or not path.is_dir():
            return None
        if (path / "oci-layout").exists():
            return "oci"
        if (path / "manifest.json").exists():
            return "dir"
    raise NotAnImage(f"{path} holds no image: it has neither a file oci-layout nor manifest.json")


def _layout(file: ImageFile) -> list[FoundImage]:
    if file.tag:
        return [FoundImage(LayoutSource(file.path, file.tag), *_sorted([file.tag]))]
    check_layout(file.path)
    listing = read_layout_index(file.path) or {}
    return [
        FoundImage(LayoutSource(file.path, at), *_sorted(names))
        for at, names in _entries(listing, file.path)
    ]


def _archive(archive: TarArchive, file: ImageFile) -> list[FoundImage]:
    """Docker's listing comes first: it has all names, and is in the newer archives as well."""
    docker = file.transport == "docker-archive"
    if docker or (file.transport is None and archive.has(LISTING)):
        if file.tag:
            return [FoundImage(DockerArchiveSource(archive, file.tag), *_sorted([file.tag]))]
        return [
            FoundImage(DockerArchiveSource(archive, f"@{at}"), saved.references)
            for at, saved in enumerate(read_listing(archive))
        ]
    if file.tag:
        return [FoundImage(ArchiveSource(archive, file.tag), *_sorted([file.tag]))]
    listing = read_index(archive)
    if listing is None:
        raise NotAnImage(
            f"{archive.path} holds no image: it has neither {LISTING} nor index.json"
            " (a root file system is not one)"
        )
    return [
        FoundImage(ArchiveSource(archive, at), *_sorted(names))
        for at, names in _entries(listing, archive.path)
    ]


def _entries(listing: dict[str, object], path: Path) -> list[tuple[str, list[str]]]:
    """Position and names of each image that an index.json lists; one of several names is once."""
    found: dict[Digest, tuple[str, list[str]]] = {}
    for at, (descriptor, names) in enumerate(entries_of(listing, path)):
        if descriptor.media_type in DOCUMENTS:
            found.setdefault(descriptor.digest, (f"@{at}", []))[1].extend(names)
    return list(found.values())


def _sorted(names: Sequence[str]) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    """Which of these are whole names, and which bare tags; ``@N`` is neither."""
    whole: dict[Reference, None] = {}
    tags: dict[str, None] = {}
    for name in names:
        try:
            if ":" in name or "/" in name:
                whole[Reference.parse(name)] = None
            elif not name.startswith("@"):
                tags[name] = None
        except (ReferenceInvalid, DigestInvalid):
            continue  # what is no name of an image cannot name one here
    return tuple(whole), tuple(tags)
