"""Archives as other programs write them, made by hand: tars, and what ``docker save`` gives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from registryd.images.archive import open_archive
from registryd.images.archive_source import ArchiveSource, DockerArchiveSource
from registryd.images.archive_target import open_writer
from registryd.oci.manifest import Document
from registryd.oci.reference import Reference
from registryd.transfer.copy import copy_image
from tests.fakes.endpoints import MemorySink, MemorySource, Sample


def entry(name: str, content: bytes = b"", *, link: str = "", kind: bytes = b"") -> tarfile.TarInfo:
    """One member; with a link a symbolic one unless the kind says otherwise."""
    made = tarfile.TarInfo(name)
    made.type = kind or (tarfile.SYMTYPE if link else tarfile.REGTYPE)
    made.linkname = link
    made.size = len(content)
    return made


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of these members, in order."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for made, content in members:
            archive.addfile(made, io.BytesIO(content))
    return file.getvalue()


def files(contents: dict[str, bytes], **how: int) -> bytes:
    """A tar of plain files."""
    return tar(*((entry(name, raw), raw) for name, raw in contents.items()), **how)


def sha(content: bytes) -> str:
    """The hex by which archives name content."""
    return hashlib.sha256(content).hexdigest()


#: A layer of the usual kind: a tar with a file.
LAYER = files({"etc/hostname": b"here\n"})
SECOND = files({"data": bytes(range(256)) * 10})


@dataclass
class Saved:
    """An image as classic ``docker save`` writes it; each part can be spoilt."""

    layers: Sequence[bytes] = (LAYER, SECOND)
    tags: Sequence[str] = ("quay.io/x/app:1",)
    pack: Callable[[bytes], bytes] = bytes
    more: dict[str, object] = field(default_factory=dict)

    @property
    def config(self) -> bytes:
        """The image's config."""
        hexes = {layer: sha(layer) for layer in dict.fromkeys(self.layers)}
        diff_ids = [f"sha256:{hexes[layer]}" for layer in self.layers]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        return json.dumps(
            {"os": "linux", "architecture": "amd64", "rootfs": rootfs, **self.more}
        ).encode()

    @property
    def listed(self) -> dict[str, object]:
        """Its entry of manifest.json."""
        hexes = {layer: sha(layer) for layer in dict.fromkeys(self.layers)}
        names = [f"{hexes[layer]}/layer.tar" for layer in self.layers]
        return {
            "Config": f"{sha(self.config)}.json",
            "RepoTags": list(self.tags) or None,
            "Layers": names,
        }

    def members(self) -> dict[str, bytes]:
        """Its files."""
        layers = {
            f"{sha(layer)}/layer.tar": self.pack(layer) for layer in dict.fromkeys(self.layers)
        }
        return {f"{sha(self.config)}.json": self.config, **layers}


def saved(*images: Saved) -> bytes:
    """What ``docker save`` of these images gives."""
    contents: dict[str, bytes] = {}
    for image in images:
        contents.update(image.members())
    contents["manifest.json"] = json.dumps([image.listed for image in images]).encode()
    return files(contents)


def squeeze(content: bytes) -> bytes:
    """gzip, the same every time."""
    return gzip.compress(content, mtime=0)


async def read_docker(path: Path, wanted: str = "") -> tuple[Document, MemorySink]:
    """Everything of an image in a docker-archive."""
    sink = MemorySink()
    async with open_archive(path, spool=path.parent) as archive:
        await copy_image(DockerArchiveSource(archive, wanted), sink)
    assert sink.root is not None
    return sink.root, sink


async def read_oci(path: Path, tag: str = "") -> tuple[Document, MemorySink]:
    """Everything of an image in an oci-archive."""
    sink = MemorySink()
    async with open_archive(path, spool=path.parent) as archive:
        await copy_image(ArchiveSource(archive, tag), sink)
    assert sink.root is not None
    return sink.root, sink


async def write_archive(
    path: Path, form: str, images: dict[str, Sample], *, replace: bool = False
) -> Path:
    """An archive of ours; names with a slash are references, others are tags."""
    kind = "docker-archive" if form == "docker-archive" else "oci-archive"
    async with open_writer(path, kind, spool=path.parent, replace=replace) as writer:  # type: ignore[arg-type]
        for name, sample in images.items():
            given = Reference.parse(name) if "/" in name else name
            await copy_image(MemorySource(sample), writer.sink(given))
    return path
