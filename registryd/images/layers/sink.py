"""An image to be made one: its layers kept aside, proven, until its manifest comes last.

Invariants:
- a layer that is not what was announced is refused before anything is read from it;
- layers lie in files without a name, which go with the process, while the disk has room;
- the target is made in a moment when everything is there, under its name last of all.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import DiskFull
from registryd.images.archive import has_room, unnamed
from registryd.images.errors import NotAnImage, path_faults
from registryd.images.files import Proof, in_thread, receive, write_all
from registryd.images.layers.contents import Opener
from registryd.images.layers.plan import Plan
from registryd.images.layers.stored import LAYERS, StoredLayer, planned
from registryd.oci.errors import BlobUnknown, UsageError
from registryd.oci.image_config import CONFIG_LIMIT
from registryd.oci.manifest import Document, Manifest
from registryd.oci.media_types import DOCKER_CONFIG, OCI_CONFIG
from registryd.ports import BodyOpener

CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})


@dataclass(frozen=True, slots=True)
class FlatImage:
    """Which image is made one: the digest of its manifest, and its configuration if wished."""

    digest: Digest
    config: bytes = b""


#: Makes the target of a plan: what it is, how its layers are read, and whose image it is.
Make = Callable[[Plan, Sequence[Opener], FlatImage], Awaitable[None]]


class FlatSink:
    """Takes the layers of one image, and makes the target when its manifest comes.

    With ``config`` it takes the image's configuration too.
    """

    def __init__(self, files: ExitStack, spool: Path, make: Make, *, config: bool = False) -> None:
        self._files = files
        self._spool = spool
        self._make = make
        self._wanted = LAYERS | CONFIGS if config else LAYERS
        self._config = config
        self._layers: dict[Digest, StoredLayer] = {}

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether it need not come: it is here, or it is not looked at."""
        return descriptor.media_type not in self._wanted or descriptor.digest in self._layers

    async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
        """Keep a layer. Raises SizeMismatch, DigestMismatch, DiskFull, PathUnusable."""
        file = await in_thread(unnamed, self._files, self._spool)
        arriving = _Arriving(file, self._spool, descriptor)
        async with open_body() as body:
            await receive(arriving, body)
        arriving.check()
        self._layers[descriptor.digest] = StoredLayer(file, descriptor)

    async def put_manifest(self, document: Document, *, root: bool) -> None:
        """Make the target of the root. Raises NotAnImage, UsageError, and what making raises."""
        if not root:
            return
        if not isinstance(document, Manifest):
            raise UsageError(f"{document.digest} is several images: name one by --platform")
        where = str(document.digest)
        layers = [self._layer(descriptor, where) for descriptor in document.layers]
        image = await in_thread(self._image, document)
        plan = await in_thread(planned, layers, where)
        await self._make(plan, [layer.opened for layer in layers], image)

    def _image(self, document: Manifest) -> FlatImage:
        if not self._config:
            return FlatImage(document.digest)
        found = self._layers.get(document.config.digest)
        if found is None or document.config.media_type not in CONFIGS:
            kind = document.config.media_type[:140]
            raise NotAnImage(
                f"{document.digest} has a configuration of type {kind}, as no image has"
            )
        return FlatImage(document.digest, os.pread(found.file, CONFIG_LIMIT + 1, 0))

    def _layer(self, descriptor: Descriptor, where: str) -> StoredLayer:
        if descriptor.media_type not in LAYERS:
            raise NotAnImage(f"{where} is no image: it holds {descriptor.media_type[:140]}")
        found = self._layers.get(descriptor.digest)
        if found is None:
            raise BlobUnknown(f"{where} lacks its layer {descriptor.digest}")
        return found


class _Arriving:
    """A layer on its way into its file."""

    def __init__(self, file: int, spool: Path, descriptor: Descriptor) -> None:
        self._file = file
        self._spool = spool
        self._proof = Proof(descriptor)

    def admit(self, count: int) -> None:
        """Refuse a body that is too long before the excess is written."""
        self._proof.admit(count)

    def write(self, pieces: list[bytes]) -> None:
        """Take these pieces, the next in order."""
        with path_faults(self._spool):
            if not has_room(self._file):
                raise DiskFull(
                    f"{self._spool}: no room for the layers (TMPDIR names another folder)"
                )
            for piece in pieces:
                self._proof.update(piece)
                write_all(self._file, piece)

    def check(self) -> None:
        """Raise SizeMismatch or DigestMismatch unless it is what was announced."""
        self._proof.check()
