"""Where an image is: the names of sources and destinations that commands take.

    oci:DIR[:TAG]   dir:DIR   cache:NAME   [docker://]NAME

Invariant: a location that exists can be used as it is; its reference is in normal form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from typing_extensions import override

from registryd.images.folder import FolderSink, FolderSource
from registryd.images.layout import LayoutSink, LayoutSource
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference
from registryd.ports import Sink, Source

Transport = Literal["oci", "dir", "cache", "registry"]

#: Forms of other tools; taking one of them for a repository would only puzzle.
_NOT_OFFERED: Final = frozenset(
    {
        "containers-storage",
        "docker-archive",
        "docker-daemon",
        "oci-archive",
        "ostree",
        "sif",
        "tarball",
    }
)


@dataclass(frozen=True, slots=True)
class ImageLocation:
    """One source or destination: ``path`` and ``tag`` for files, ``reference`` for the others."""

    transport: Transport
    path: Path | None = None
    tag: str = ""
    reference: Reference | None = None

    @classmethod
    def parse(cls, text: str) -> ImageLocation:
        """Read what a person wrote. Raises UsageError, ReferenceInvalid."""
        kind, colon, rest = text.partition(":")
        if not colon or kind not in {"oci", "dir", "cache", *_NOT_OFFERED}:
            return cls("registry", reference=Reference.parse(text))
        if kind in _NOT_OFFERED:
            raise UsageError(f"{kind}: is not offered (use oci:DIR:TAG, dir:DIR, cache:NAME, NAME)")
        if kind == "cache":
            return cls("cache", reference=Reference.parse(rest))
        path, _, tag = rest.partition(":") if kind == "oci" else (rest, "", "")
        if not path or "\0" in rest:
            raise UsageError(f"{text[:300]!r} names no folder")
        return cls("oci" if kind == "oci" else "dir", Path(path), tag)

    def file_source(self) -> Source:
        """The image to read here. Raises UsageError when this is no file form."""
        path = self._folder()
        return LayoutSource(path, self.tag) if self.transport == "oci" else FolderSource(path)

    def file_sink(self) -> Sink:
        """The place to write to here. Raises UsageError when this is no file form."""
        path = self._folder()
        return LayoutSink(path, self.tag) if self.transport == "oci" else FolderSink(path)

    @override
    def __str__(self) -> str:
        if self.transport == "registry":
            return str(self.reference)
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.transport}:{self.path or self.reference}{tag}"

    def _folder(self) -> Path:
        if self.path is None:
            raise UsageError(f"{self} is not a folder (want oci:DIR[:TAG] or dir:DIR)")
        return self.path
