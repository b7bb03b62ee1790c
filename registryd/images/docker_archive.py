"""What ``docker save`` writes: manifest.json, configs and layers, and the manifest they lack.

Classic archives have no manifest of the image, only its parts. Ours is Docker's schema 2 with the
layers as they lie in the archive: a layer that is a plain tar has its diffID for a digest.

Invariants:
- the same archive gives the same manifest, digest and all;
- config and layers are proven against each other: as many layers as diffIDs, and a layer that is
  compressed in the archive is inflated once to prove its diffID (a plain one is proven by whoever
  takes it, as its diffID is its digest).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import DigestInvalid, DigestMismatch
from registryd.images.archive import TarArchive
from registryd.images.errors import NotAnImage
from registryd.images.files import HOP
from registryd.images.inflate import MAGIC_LENGTH, Inflated, compression
from registryd.images.layout import some
from registryd.images.tar_scan import Member
from registryd.images.words import position_of
from registryd.oci import fields
from registryd.oci.errors import ManifestUnknown, ReferenceInvalid
from registryd.oci.image_config import CONFIG_LIMIT, parse_config
from registryd.oci.manifest import MANIFEST_LIMIT, Document, parse
from registryd.oci.media_types import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from registryd.oci.reference import Reference

LISTING: Final = "manifest.json"
#: How many times its own size a layer may hold: gzip's own limit is 1032, and files of zeros reach
#: it. What is inflated is not kept.
LAYER_RATIO: Final = 1100
_LAYER_FREE: Final = 16 << 20

#: Media types of manifest, config and layers; schema 2 knows no zstd.
_DOCKER: Final = (DOCKER_MANIFEST, DOCKER_CONFIG, {None: DOCKER_LAYER, "gzip": DOCKER_LAYER_GZIP})
_OCI: Final = (
    OCI_MANIFEST,
    OCI_CONFIG,
    {None: OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD},
)


@dataclass(frozen=True, slots=True)
class SavedImage:
    """One entry of manifest.json: names of files in the archive, and names of the image."""

    config: str
    layers: tuple[str, ...]
    references: tuple[Reference, ...] = ()

    def read_config(self, archive: TarArchive) -> bytes:
        """The image's config. Raises NotAnImage, and DigestMismatch where its name is another's."""
        raw = archive.read(self.config, CONFIG_LIMIT)
        if raw is None:
            raise NotAnImage(f"{archive.path} lacks {self.config[:140]}, which its image needs")
        claimed = _claimed(self.config)
        if claimed is not None and claimed != Digest.of(raw):
            raise DigestMismatch(
                f"{archive.path}: {self.config} hashes to {Digest.of(raw)}, not to its name"
            )
        return raw


def read_listing(archive: TarArchive) -> list[SavedImage]:
    """The images of an archive. Raises NotAnImage."""
    raw = archive.read(LISTING, MANIFEST_LIMIT)
    if raw is None and archive.has("repositories"):
        raise NotAnImage(
            f"{archive.path} was written by a Docker before 1.10; load and save it with a newer one"
        )
    if raw is None:
        hint = "; it may be oci-archive:" if archive.has("index.json") else ""
        raise NotAnImage(f"{archive.path} holds no image: it has no file {LISTING}{hint}")
    try:
        return [_saved(value, f"[{at}]") for at, value in enumerate(fields.load_list(raw))]
    except fields.Malformed as error:
        raise NotAnImage(f"{archive.path}: {LISTING} is not usable: {error}") from None


def find_image(images: Sequence[SavedImage], path: Path, wanted: str) -> SavedImage:
    """The image with this name, the Nth for ``@N``, or the only one. Raises ManifestUnknown."""
    position = position_of(wanted)
    if position is not None:
        found = list(images[position : position + 1])
    else:
        found = [i for i in images if not wanted or wanted in map(str, i.references)]
    if len(set(found)) == 1:
        return found[0]
    names = [
        next((each.familiar() for each in image.references), f"@{at}")
        for at, image in enumerate(images)
    ]
    if not images:
        raise ManifestUnknown(f"the archive {path} holds no image")
    if not wanted:
        raise ManifestUnknown(
            f"the archive {path} holds {len(images)} images; write docker-archive:{path}:REF"
            f" (there are: {some(names)})"
        )
    several = "several images" if found else "no image"
    raise ManifestUnknown(f"the archive {path} has {several} {wanted} (there are: {some(names)})")


class Assembly:
    """A manifest made of the parts in a classic archive, piece by piece; its methods block.

    Raises NotAnImage, ManifestInvalid when made.
    """

    def __init__(self, archive: TarArchive, saved: SavedImage) -> None:
        raw = saved.read_config(archive)
        self._archive = archive
        self._config = Digest.of(raw), len(raw)
        self.members: dict[Digest, Member] = {self._config[0]: self._file(saved.config)}
        self._todo = list(zip(saved.layers, parse_config(raw).diff_ids, strict=False))
        self._layers: list[tuple[str | None, Digest, int]] = []
        self._proving: _Proving | None = None
        #: What was proven is not read again, however often an image names it.
        self._proven: dict[tuple[Member, Digest], _Proving] = {}
        if len(saved.layers) != len(parse_config(raw).diff_ids):
            raise NotAnImage(
                f"{archive.path}: the image has {len(saved.layers)} layers, and its config tells of"
                f" {len(parse_config(raw).diff_ids)}"
            )

    def step(self) -> bool:
        """Read about 1 MiB, or look at a layer; whether there is more to do.

        Raises NotAnImage, DigestMismatch, PathUnusable.
        """
        if self._proving is not None:
            if not self._proving.step():
                self._prove(self._proving)
                self._proving = None
            return True
        if not self._todo:
            return False
        name, diff_id = self._todo.pop(0)
        member = self._file(name)
        kind = compression(self._archive.stretch(member).read(MAGIC_LENGTH))
        if kind is None:
            self._add(None, diff_id, member)
        elif (member, diff_id) in self._proven:
            self._prove(self._proven[member, diff_id])
        else:
            self._proving = _Proving(self._archive, name, member, diff_id)
        return True

    def manifest(self) -> Document:
        """The manifest of all layers."""
        zstd = any(kind == "zstd" for kind, _, _ in self._layers)
        manifest, config, layers = _OCI if zstd else _DOCKER
        members = {
            "schemaVersion": 2,
            "mediaType": manifest,
            "config": _wire(config, *self._config),
            "layers": [_wire(layers[kind], digest, size) for kind, digest, size in self._layers],
        }
        return parse(json.dumps(members, separators=(",", ":")).encode())

    def _prove(self, proving: _Proving) -> None:
        self._proven[proving.member, proving.diff_id] = proving
        self._add(proving.kind, proving.digest, proving.member)

    def _add(self, kind: str | None, digest: Digest, member: Member) -> None:
        self._layers.append((kind, digest, member.size))
        known = self.members.setdefault(digest, member)
        if known.size != member.size:
            raise NotAnImage(
                f"{self._archive.path}: the layer {digest} has {known.size} and {member.size} bytes"
            )

    def _file(self, name: str) -> Member:
        member = self._archive.find(name)
        if member is None:
            raise NotAnImage(f"{self._archive.path} lacks {name[:140]}, which its image needs")
        return member


class _Proving:
    """A compressed layer, read once for its digest, and inflated for its diffID."""

    def __init__(self, archive: TarArchive, name: str, member: Member, diff_id: Digest) -> None:
        where = f"{archive.path}: {name[:140]}"
        stretch = archive.stretch(member)
        kind = compression(stretch.read(MAGIC_LENGTH))
        if kind not in ("gzip", "zstd"):
            raise NotAnImage(
                f"{where} is compressed by {kind}, for which layers have no media type"
            )
        self.kind: str = kind
        self.member = member
        self._where = where
        self._raw = archive.stretch(member)
        self._plain = Inflated(archive.stretch(member), kind, where)
        self.diff_id = diff_id
        self._hash = diff_id.hasher()
        self._own = Digest.of(b"").hasher()
        self._count = 0

    @property
    def digest(self) -> Digest:
        """The digest of the layer as it lies in the archive."""
        return Digest("sha256", self._own.hexdigest())

    def step(self) -> bool:
        """Read on; whether there is more. Raises NotAnImage, DigestMismatch."""
        raw, plain = self._raw.read(HOP), self._plain.read(HOP)
        self._own.update(raw)
        self._hash.update(plain)
        self._count += len(plain)
        if self._count > _LAYER_FREE + LAYER_RATIO * self.member.size:
            raise NotAnImage(f"{self._where} holds more than {LAYER_RATIO} times its own size")
        if raw or plain:
            return True
        if self._hash.hexdigest() != self.diff_id.hex:
            raise DigestMismatch(
                f"{self._where} holds {self.diff_id.algorithm}:{self._hash.hexdigest()}, and its"
                f" config tells of {self.diff_id}"
            )
        return False


def _wire(media_type: str, digest: Digest, size: int) -> dict[str, object]:
    descriptor = Descriptor(media_type, digest, size)
    return {"mediaType": descriptor.media_type, "size": size, "digest": str(digest)}


def _saved(value: object, where: str) -> SavedImage:
    members = fields.mapping(value, where)
    config = fields.text(members, "Config", f"{where}.")
    layers = fields.texts(members, "Layers", f"{where}.")
    if not config:
        raise fields.Malformed(f"{where}.Config is missing")
    references = []
    for tag in fields.texts(members, "RepoTags", f"{where}."):
        try:
            references.append(Reference.parse(tag))
        except ReferenceInvalid:
            continue  # "<none>:<none>", and what else is no name
    return SavedImage(_plain(config), tuple(map(_plain, layers)), tuple(references))


def _plain(name: str) -> str:
    """A file's name as the scan has it."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _claimed(name: str) -> Digest | None:
    """The digest that a name says: ``HEX.json``, ``sha256:HEX``, ``blobs/sha256/HEX``."""
    last = name.rpartition("/")[2].removesuffix(".json").removeprefix("sha256:")
    try:
        return Digest("sha256", last)
    except DigestInvalid:
        return None
