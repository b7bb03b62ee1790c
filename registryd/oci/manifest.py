"""Manifests and indexes as values (image specification 1.1, "Image Manifest", "Image Index").

Docker's schema 2 manifests and lists are the same things by other names, and artifacts are
manifests with an ``artifactType``. Schema 1 is refused.

Invariants:
- the bytes are kept as they came and never encoded again, so the digest stays true;
- the kind is decided by the body's ``mediaType``; a specific header that says something else, or a
  body that is both a manifest and an index, is refused: two readers could see two images;
- ``children`` is what must be held for the document to be whole, each digest once. A foreign layer
  that carries ``urls`` is listed in ``layers`` but is no child: registries need not have it, and
  its licence may forbid copies. Without ``urls`` there is nowhere else to get it: it is a child;
- ``subject`` is no child: an artifact may be there before, or without, what it is attached to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cache.content import Descriptor, Digest, verify
from cache.marks import override
from registryd.oci import fields
from registryd.oci.errors import ManifestInvalid, PlatformUnknown, UsageError
from registryd.oci.fields import NOTHING, Malformed
from registryd.oci.media_types import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCUMENTS,
    FOREIGN_LAYERS,
    INDEXES,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    essence,
)
from registryd.oci.platform import Platform

#: Largest manifest or index: what registries take at most (distribution spec, "Pushing Manifests").
MANIFEST_LIMIT: Final = 4 * 1024 * 1024

#: Content types that begin so name one format; all others say nothing about a manifest.
_SPECIFIC: Final = ("application/vnd.oci.", "application/vnd.docker.")
_SCHEMA1_LINE: Final = (
    "it is a schema 1 manifest, which is not supported; push the image again with a current client"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What manifests and indexes have in common; made by ``parse`` only."""

    raw: bytes = field(repr=False)
    media_type: str
    digest: Digest
    children: tuple[Descriptor, ...] = field(default=(), compare=False)
    subject: Descriptor | None = field(default=None, compare=False)
    artifact_type: str = field(default="", compare=False)
    annotations: Mapping[str, str] = field(default_factory=lambda: NOTHING, compare=False)

    @property
    def descriptor(self) -> Descriptor:
        """What points to this document."""
        return Descriptor(self.media_type, self.digest, len(self.raw))

    @property
    def referrer_type(self) -> str:
        """The artifact type under which a list of referrers shows this document.

        Distribution specification 1.1, "Listing Referrers".
        """
        return self.artifact_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Document):
    """One image or artifact: its configuration and its layers, in order."""

    config: Descriptor = field(compare=False)
    layers: tuple[Descriptor, ...] = field(compare=False)

    @property
    @override
    def referrer_type(self) -> str:
        """The artifact type, or the media type of the configuration where there is none."""
        return self.artifact_type or self.config.media_type


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of an index: what it points to, and for whom."""

    descriptor: Descriptor
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: NOTHING, hash=False)
    artifact_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index(Document):
    """A list of manifests (or of further indexes), usually one a platform."""

    entries: tuple[IndexEntry, ...] = field(compare=False)

    def select(self, wanted: Platform) -> IndexEntry:
        """The entry that runs best on this platform, the first one of equals.

        Images come before artifacts. An entry that names no platform is taken when none fits.
        Raises PlatformUnknown, which lists the platforms there are.
        """
        ranked = [
            (bool(entry.artifact_type), rank, position)
            for position, entry in enumerate(self.entries)
            if entry.platform and (rank := wanted.accepts(entry.platform)) is not None
        ]
        if ranked:
            return self.entries[min(ranked)[2]]
        for entry in self.entries:
            manifest = entry.descriptor.media_type in DOCUMENTS
            if manifest and not entry.platform and not entry.artifact_type:
                return entry
        named = {str(e.platform): None for e in self.entries if e.platform and e.platform.known}
        listed = ", ".join(named) or "none"
        raise PlatformUnknown(f"there is no image for {wanted} in {self.digest} (it has: {listed})")


def parse(
    raw: bytes, content_type: str | None = None, expected: Digest | None = None
) -> Manifest | Index:
    """Read a manifest or an index, proven against ``expected`` where that is given.

    Raises DigestMismatch; ManifestInvalid when it is malformed, too large, schema 1, or when its
    content type and its body contradict each other.
    """
    if len(raw) > MANIFEST_LIMIT:
        named = f"manifest {expected}" if expected else "the manifest"
        raise ManifestInvalid(f"{named} has {len(raw)} bytes, {MANIFEST_LIMIT} are allowed")
    if expected is not None:
        verify(raw, expected)
    digest = expected or Digest.of(raw)
    try:
        members = fields.load(raw)
        media_type = _media_type(members, essence(content_type or ""))
        read = _index if media_type in INDEXES else _manifest
        return read(members, raw, media_type, digest)
    except (Malformed, UsageError) as error:
        raise ManifestInvalid(f"manifest {digest} is not usable: {error}") from None


def listing(entries: Iterable[IndexEntry]) -> Index:
    """An OCI index of these entries, each digest once; it may be larger than one that is pushed."""
    once = tuple({entry.descriptor.digest: entry for entry in entries}.values())
    members = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [wire_entry(entry) for entry in once],
    }
    raw = json.dumps(members, separators=(",", ":")).encode()
    children = tuple(entry.descriptor for entry in once)
    return Index(
        raw=raw, media_type=OCI_INDEX, digest=Digest.of(raw), children=children, entries=once
    )


def wire_entry(entry: IndexEntry) -> dict[str, object]:
    """An entry of an index as it is written, but for its platform."""
    members: dict[str, object] = {
        "mediaType": entry.descriptor.media_type,
        "digest": str(entry.descriptor.digest),
        "size": entry.descriptor.size,
    }
    if entry.artifact_type:
        members["artifactType"] = entry.artifact_type
    if entry.annotations:
        members["annotations"] = dict(entry.annotations)
    return members


def _media_type(members: Mapping[str, object], header: str) -> str:
    """Which of DOCUMENTS this is. Raises Malformed."""
    body = fields.media_type(members, "mediaType")
    specific = header if header.startswith(_SPECIFIC) else ""
    if (body or specific) in SCHEMA1 or members.get("schemaVersion") == 1:
        raise Malformed(_SCHEMA1_LINE)
    if body and specific and body != specific:
        raise Malformed(f"it was sent as {specific}, but says of itself {body}")
    media_type = body or specific or _by_shape(members)
    if media_type not in DOCUMENTS:
        raise Malformed(f"{media_type} is not the type of a manifest or an index")
    if type(members.get("schemaVersion")) is not int or members["schemaVersion"] != 2:
        raise Malformed("schemaVersion must be 2")
    return media_type


def _by_shape(members: Mapping[str, object]) -> str:
    """The type of a body that does not say it: OCI's is optional, Docker's shows in its parts."""
    if "manifests" in members:
        listed = fields.entries(members, "manifests")
        docker = bool(listed) and _claimed_type(listed[0]) in (DOCKER_MANIFEST, DOCKER_LIST)
        return DOCKER_LIST if docker else OCI_INDEX
    if "config" in members:
        return (
            DOCKER_MANIFEST if _claimed_type(members["config"]) == DOCKER_CONFIG else OCI_MANIFEST
        )
    raise Malformed("it has neither config and layers nor manifests")


def _claimed_type(value: object) -> object:
    return value.get("mediaType") if isinstance(value, dict) else None


def _manifest(members: dict[str, object], raw: bytes, media_type: str, digest: Digest) -> Manifest:
    _refuse(members, "manifests", "fsLayers", kind="a manifest")
    config = fields.descriptor(members.get("config"), "config")
    layers, held = [], [config]
    for position, value in enumerate(fields.entries(members, "layers")):
        layer = fields.descriptor(value, f"layers[{position}]")
        layers.append(layer)
        if not _is_elsewhere(layer, value):
            held.append(layer)
    return Manifest(
        raw=raw,
        media_type=media_type,
        digest=digest,
        children=_once_each(held),
        subject=_subject(members),
        artifact_type=fields.media_type(members, "artifactType"),
        annotations=fields.labels(members, "annotations"),
        config=config,
        layers=tuple(layers),
    )


def _is_elsewhere(layer: Descriptor, value: object) -> bool:
    """Whether this layer is a foreign one that says where it is."""
    foreign = layer.media_type in FOREIGN_LAYERS
    return foreign and isinstance(value, dict) and bool(value.get("urls"))


def _index(members: dict[str, object], raw: bytes, media_type: str, digest: Digest) -> Index:
    _refuse(members, "config", "layers", "fsLayers", kind="an index")
    if "manifests" not in members:
        raise Malformed("manifests is missing")
    listed = fields.entries(members, "manifests")
    entries = tuple(_entry(value, f"manifests[{at}]") for at, value in enumerate(listed))
    return Index(
        raw=raw,
        media_type=media_type,
        digest=digest,
        children=_once_each(entry.descriptor for entry in entries),
        subject=_subject(members),
        artifact_type=fields.media_type(members, "artifactType"),
        annotations=fields.labels(members, "annotations"),
        entries=entries,
    )


def _entry(value: object, where: str) -> IndexEntry:
    descriptor = fields.descriptor(value, where)
    members = fields.mapping(value, where)
    platform = members.get("platform")
    return IndexEntry(
        descriptor,
        None if platform is None else read_platform(platform, f"{where}.platform"),
        fields.labels(members, "annotations", f"{where}."),
        fields.media_type(members, "artifactType", f"{where}."),
    )


def read_platform(value: object, where: str) -> Platform:
    """A platform object of an index or a configuration. Raises Malformed or UsageError."""
    members = fields.mapping(value, where)
    parts = (fields.text(members, key, f"{where}.") for key in ("os", "architecture", "variant"))
    return Platform(*parts)


def _subject(members: Mapping[str, object]) -> Descriptor | None:
    subject = members.get("subject")
    return None if subject is None else fields.descriptor(subject, "subject")


def _refuse(members: Mapping[str, object], *foreign: str, kind: str) -> None:
    for key in foreign:
        if key in members:
            raise Malformed(f"it is {kind}, but has the member {key}")


def _once_each(descriptors: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    """These descriptors, each digest once. Raises Malformed when one digest has two sizes."""
    kept: dict[Digest, Descriptor] = {}
    for descriptor in descriptors:
        first = kept.setdefault(descriptor.digest, descriptor)
        if first.size != descriptor.size:
            raise Malformed(f"{first.digest} has two sizes, {first.size} and {descriptor.size}")
    return tuple(kept.values())
