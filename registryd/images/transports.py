"""Where an image is: the names of sources and destinations that commands take.

    oci:DIR[:TAG]   dir:DIR   oci-archive:FILE[:TAG]   docker-archive:FILE[:REF|:@N]
    cache:NAME      [docker://]NAME
    rootfs:DIR   bundle:DIR   squashfs:FILE   sif:FILE   ext4:FILE   erofs:FILE
                                        (written only: all layers made one)

``ocidir://`` is another word for ``oci:``; the FILE ``-`` is stdin or stdout.

Invariants:
- a location that exists can be used as it is; its reference is in normal form;
- reading a name imports nothing of what reads and writes files.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from cache.errors import DigestInvalid
from cache.marks import override
from registryd.images.words import STREAM, FlatForm, position_of
from registryd.oci.errors import ReferenceInvalid, UsageError
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.images.archive_sink import Form
    from registryd.images.layers.target import FlatTerms
    from registryd.oci.platform import Platform
    from registryd.ports import Sink, Source

Transport = Literal[
    "oci",
    "dir",
    "oci-archive",
    "docker-archive",
    "rootfs",
    "bundle",
    "squashfs",
    "sif",
    "ext4",
    "erofs",
    "cache",
    "registry",
]

FILE_FORMS: Final = "oci:DIR[:TAG], dir:DIR, oci-archive:FILE[:TAG], docker-archive:FILE[:REF]"
#: What an image is made into, which nothing is read from again.
FLAT: Final[tuple[FlatForm, ...]] = get_args(FlatForm)
FLAT_FORMS: Final = "rootfs:DIR, bundle:DIR, squashfs:FILE, sif:FILE, ext4:FILE, erofs:FILE"
#: Forms of other tools; taking one of them for a repository would only puzzle.
_NOT_OFFERED: Final = frozenset({"containers-storage", "docker-daemon", "ostree", "tarball"})
_FORMS: Final = frozenset(get_args(Transport)) - {"registry"}
_WHOLE_PATH: Final = frozenset({"dir", *FLAT})
_LAYOUT_ALIAS: Final = "ocidir://"


@dataclass(frozen=True, slots=True)
class ImageLocation:
    """One source or destination: ``path`` and ``tag`` for files, ``reference`` for the others.

    The tag of a docker-archive is a reference in normal form, or ``@N``.
    """

    transport: Transport
    path: Path | None = None
    tag: str = ""
    reference: Reference | None = None

    @classmethod
    def parse(cls, text: str, *, flat: bool = False) -> ImageLocation:
        """Read what a person wrote; with ``flat`` FLAT_FORMS too.

        Raises UsageError, ReferenceInvalid.
        """
        if text.startswith(_LAYOUT_ALIAS):
            text = f"oci:{text.removeprefix(_LAYOUT_ALIAS)}"
        kind, colon, rest = text.partition(":")
        if not colon or kind not in _FORMS | _NOT_OFFERED:
            return cls("registry", reference=Reference.parse(text))
        if kind in FLAT and not flat:
            raise UsageError(f"{kind}: is written only, by export REF -o and pull REF -o")
        for transport in get_args(Transport):
            if kind == transport:
                return cls._of(transport, rest)
        raise UsageError(f"{kind}: is not offered (use {FILE_FORMS}, cache:NAME, NAME)")

    @classmethod
    def _of(cls, transport: Transport, rest: str) -> ImageLocation:
        if transport == "cache":
            return cls(transport, reference=Reference.parse(rest))
        path, _, tag = (rest, "", "") if transport in _WHOLE_PATH else rest.partition(":")
        if not path or "\0" in rest:
            what = "folder" if transport in ("oci", "dir", "rootfs", "bundle") else "file"
            raise UsageError(f"{f'{transport}:{rest}'[:300]!r} names no {what}")
        if transport == "docker-archive" and tag and position_of(tag) is None:
            tag = _saved_name(tag)
        return cls(transport, Path(path), tag)

    @property
    def streams(self) -> bool:
        """Whether this is stdin or stdout."""
        return self.transport.endswith("-archive") and str(self.path) == STREAM

    @property
    def flat(self) -> FlatForm | None:
        """Which of the forms it is that hold one image made of all its layers."""
        return next((form for form in FLAT if form == self.transport), None)

    def named(self, reference: Reference | None) -> ImageLocation:
        """An archive that names no image, with this name for the one to be written."""
        if self.tag or reference is None or reference.tag is None:
            return self
        if not self.transport.endswith("-archive"):
            return self
        return replace(self, tag=str(replace(reference, digest=None)))

    @asynccontextmanager
    async def opened_source(self, *, spool: Path) -> AsyncIterator[Source]:
        """The image to read here; ``spool`` is a folder for archives that cannot lie still.

        Raises UsageError when this is no file form, and as open_archive does.
        """
        from registryd.images.folder import FolderSource
        from registryd.images.layout import LayoutSource

        path = self._path()
        if self.transport == "oci":
            yield LayoutSource(path, self.tag)
        elif self.transport == "dir":
            yield FolderSource(path)
        else:
            from registryd.images.archive import open_archive
            from registryd.images.archive_source import ArchiveSource, DockerArchiveSource

            async with open_archive(path, spool=spool) as archive:
                docker = self.transport == "docker-archive"
                yield (DockerArchiveSource if docker else ArchiveSource)(archive, self.tag)

    @asynccontextmanager
    async def opened_sink(
        self,
        *,
        spool: Path,
        platform: Platform | None = None,
        replace: bool = False,
        flat: FlatTerms | None = None,
    ) -> AsyncIterator[Sink]:
        """The place to write to here; an archive is there when the block has ended well.

        ``flat`` says how a flattened image is made. Raises UsageError when this is no file form,
        and as open_writer and open_flat do.
        """
        from registryd.images.folder import FolderSink
        from registryd.images.layout import LayoutSink

        path = self._path()
        if self.flat is not None:
            if flat is None:
                raise UsageError(f"{self} is not written here")
            from registryd.images.layers.target import open_flat

            async with open_flat(self.flat, path, spool=spool, terms=flat) as made:
                yield made
        elif self.transport == "oci":
            yield LayoutSink(path, self.tag)
        elif self.transport == "dir":
            yield FolderSink(path)
        else:
            from registryd.images.archive_target import open_writer

            name = self._name()
            form: Form = "oci-archive" if self.transport == "oci-archive" else "docker-archive"
            opening = open_writer(path, form, spool=spool, platform=platform, replace=replace)
            async with opening as writer:
                yield writer.sink(name)

    @override
    def __str__(self) -> str:
        if self.transport == "registry":
            return str(self.reference)
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.transport}:{self.path or self.reference}{tag}"

    def _name(self) -> Reference | str:
        """The name of the image in an archive to be written."""
        if position_of(self.tag) is not None:
            raise UsageError(f"{self}: an image is written under a name, not at a position")
        if self.transport == "oci-archive" and "/" not in self.tag:
            return self.tag
        try:
            return Reference.parse(self.tag) if self.tag else ""
        except (ReferenceInvalid, DigestInvalid):
            return self.tag

    def _path(self) -> Path:
        if self.path is None:
            raise UsageError(f"{self} is not a folder or file (want {FILE_FORMS})")
        return self.path


def _saved_name(text: str) -> str:
    """A name as a docker-archive has it, in normal form. Raises UsageError, ReferenceInvalid."""
    reference = Reference.parse(text)
    if reference.digest is not None:
        raise UsageError(f"docker-archive names images by tag, not by digest: {text[:300]}")
    return str(reference)
