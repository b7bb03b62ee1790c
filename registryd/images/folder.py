"""One image in a flat folder, ``dir:DIR``: the form that skopeo calls the directory transport, 1.1.

``version`` names the form, ``manifest.json`` is the root, ``<hex>`` a blob and
``<hex>.manifest.json`` a manifest that the root index lists.

Invariants:
- manifest.json comes last: a folder that has it, has all that it names;
- a folder that is not empty and not of this form is never written to. Blobs of an older image that
  was there stay.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
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
from registryd.oci.errors import ManifestInvalid
from registryd.oci.manifest import MANIFEST_LIMIT, Document, parse
from registryd.ports import Body, BodyOpener

VERSION_PREFIX: Final = "Directory Transport Version: "
VERSION: Final = "1.1"
_VERSION_LIMIT: Final = 4096


class FolderSource:
    """The image in a folder (a ``ports.Source``)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def root(self) -> Document:
        """The image's manifest or index. Raises NotAnImage, ManifestInvalid, PathUnusable."""
        return await in_thread(self._root)

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child manifest. Raises BlobUnknown, SizeMismatch, DigestMismatch, ManifestInvalid."""
        return await in_thread(self._manifest, descriptor)

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A config or layer. Raises BlobUnknown, SizeMismatch, PathUnusable on entering."""
        return open_blob(self._path / descriptor.digest.hex, descriptor)

    def _root(self) -> Document:
        check_version(self._path)
        raw = read_small(self._path / "manifest.json", MANIFEST_LIMIT)
        if raw is None:
            raise NotAnImage(f"{self._path} holds no image: it has no file manifest.json")
        return parse(raw)

    def _manifest(self, descriptor: Descriptor) -> Document:
        raw = read_document(manifest_path(self._path, descriptor.digest), descriptor)
        return parse(raw, descriptor.media_type, descriptor.digest)


class FolderSink:
    """A folder to copy one image to (a ``ports.Sink`` that is ``Surveyed``)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def standing(self) -> Descriptor | None:
        """What image the folder holds now; one that is damaged is none. Raises NotAnImage."""
        try:
            root = await in_thread(self._root)
        except ManifestInvalid:
            return None
        return None if root is None else root.descriptor

    async def has_whole(self, descriptor: Descriptor) -> bool:
        """Whether the manifest is there, with all that it points to."""
        return await in_thread(is_complete, descriptor, self._document, self._has_blob)

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, by name and size. Raises NotAnImage."""
        return await in_thread(self._has_blob, descriptor)

    async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
        """Take one blob. Raises SizeMismatch, DigestMismatch, NotAnImage, DiskFull."""
        await in_thread(self._prepare)
        await write_blob(self._path / descriptor.digest.hex, descriptor, open_body)

    async def put_manifest(self, document: Document, *, root: bool) -> None:
        """Take a manifest; the root becomes manifest.json. Raises as put_blob does."""
        await in_thread(self._put_manifest, document, root)

    def _root(self) -> Document | None:
        check_target(self._path)
        raw = read_small(self._path / "manifest.json", MANIFEST_LIMIT)
        return None if raw is None else parse(raw)

    def _document(self, descriptor: Descriptor) -> Document:
        root = self._root()
        if root is not None and root.digest == descriptor.digest:
            return root
        raw = read_document(manifest_path(self._path, descriptor.digest), descriptor)
        return parse(raw, descriptor.media_type, descriptor.digest)

    def _has_blob(self, descriptor: Descriptor) -> bool:
        check_target(self._path)
        return holds(self._path / descriptor.digest.hex, descriptor.size)

    def _prepare(self) -> None:
        check_target(self._path)
        if not (self._path / "version").exists():
            write_small(self._path / "version", f"{VERSION_PREFIX}{VERSION}\n".encode())

    def _put_manifest(self, document: Document, root: bool) -> None:
        self._prepare()
        child = manifest_path(self._path, document.digest)
        write_small(self._path / "manifest.json" if root else child, document.raw)

    @override
    def __str__(self) -> str:
        return f"dir:{self._path}"


def manifest_path(root: Path, digest: Digest) -> Path:
    """Where a folder keeps a manifest that its root lists."""
    return root / f"{digest.hex}.manifest.json"


def check_version(root: Path) -> None:
    """Raise NotAnImage unless this is a folder of a version we know; no version file means 1.0."""
    with path_faults(root):
        if not root.is_dir():
            raise NotAnImage(f"{root} is not a folder")
    raw = read_small(root / "version", _VERSION_LIMIT)
    known = f"{VERSION_PREFIX}1.".encode()
    if raw is not None and not raw.startswith(known):
        raise NotAnImage(f"{root} holds no image: its file version does not say {known.decode()}x")


def check_target(root: Path) -> None:
    """Raise NotAnImage unless an image may be written here."""
    if is_vacant(root):
        return
    if not (root / "version").exists():
        raise NotAnImage(f"{root} is not empty and holds no image; choose a new folder")
    check_version(root)
