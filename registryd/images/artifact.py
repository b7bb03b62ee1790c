"""Files of a person as an artifact to copy from (a ``ports.Source``)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from cache.content import Descriptor, Digest, new_hash
from registryd.images.errors import path_faults
from registryd.images.files import HOP, in_thread, open_blob
from registryd.oci.artifact import EMPTY, EMPTY_DESCRIPTOR
from registryd.oci.errors import BlobUnknown, UsageError
from registryd.oci.manifest import Document
from registryd.ports import Body

#: What every registry knows.
ALGORITHM: Final = "sha256"


class ArtifactSource:
    """An artifact whose blobs are these files."""

    def __init__(self, document: Document, files: Mapping[Digest, Path]) -> None:
        self._document = document
        self._files = files

    async def root(self) -> Document:
        """The artifact's manifest."""
        return self._document

    async def manifest(self, descriptor: Descriptor) -> Document:
        """Raises BlobUnknown: an artifact has one manifest."""
        raise BlobUnknown(f"an artifact of files has no manifest {descriptor.digest}")

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A file. Raises BlobUnknown, SizeMismatch, PathUnusable on entering."""
        path = self._files.get(descriptor.digest)
        if path is not None:
            return open_blob(path, descriptor)
        return _empty(descriptor)


@asynccontextmanager
async def _empty(descriptor: Descriptor) -> AsyncIterator[Body]:
    if descriptor.digest != EMPTY_DESCRIPTOR.digest:
        raise BlobUnknown(f"the artifact has no file {descriptor.digest}")
    yield _EmptyBody()


class _EmptyBody:
    """The empty JSON object."""

    start = 0
    total: int | None = len(EMPTY)
    source = "memory"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield EMPTY


async def describe_file(path: Path, media_type: str) -> Descriptor:
    """What a file is as a blob, read whole. Raises UsageError, PathUnusable."""
    return await in_thread(_describe, path, media_type)


def _describe(path: Path, media_type: str) -> Descriptor:
    if path.is_dir():
        raise UsageError(f"{path} is a folder: pack it first (tar -czf FILE.tar.gz {path})")
    hasher, size = new_hash(ALGORITHM), 0
    with path_faults(path), ExitStack() as files:
        file = files.enter_context(path.open("rb"))
        while piece := file.read(HOP):
            hasher.update(piece)
            size += len(piece)
    return Descriptor(media_type, Digest(ALGORITHM, hasher.hexdigest()), size)
