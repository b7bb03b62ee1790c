"""Artifacts: manifests of files that are no image, attached to one or on their own.

Image specification 1.1, "Guidelines for Artifact Usage". The configuration is the empty one, and
what has no files has the empty blob as its layer: some registries refuse a list without any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cache.content import Descriptor
from registryd.oci.errors import UsageError
from registryd.oci.fields import NOTHING
from registryd.oci.manifest import Document, parse
from registryd.oci.media_types import OCI_EMPTY, OCI_MANIFEST

#: Where a layer has the name of its file (image specification 1.1, "Pre-Defined Annotation Keys").
TITLE: Final = "org.opencontainers.image.title"
CREATED: Final = "org.opencontainers.image.created"
EMPTY: Final = b"{}"
EMPTY_DESCRIPTOR: Final = Descriptor.of(OCI_EMPTY, EMPTY)


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file of an artifact: what it is, and what it is called there."""

    descriptor: Descriptor
    title: str
    annotations: Mapping[str, str] = field(default_factory=lambda: NOTHING, hash=False)


def artifact(
    artifact_type: str,
    files: Sequence[ArtifactFile],
    *,
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] = NOTHING,
) -> Document:
    """The manifest of an artifact. Raises UsageError for a type that is no media type."""
    kind, slash, name = artifact_type.partition("/")
    if not (kind and slash and name) or not artifact_type.isprintable() or " " in artifact_type:
        raise UsageError(
            f"artifact type {artifact_type[:140]!r} is not a media type (want KIND/NAME, as"
            " application/spdx+json)"
        )
    layers = [
        {**_wire(each.descriptor), "annotations": {TITLE: each.title, **each.annotations}}
        for each in files
    ]
    members: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": {**_wire(EMPTY_DESCRIPTOR), "data": "e30="},
        "layers": layers or [{**_wire(EMPTY_DESCRIPTOR), "data": "e30="}],
    }
    if subject is not None:
        members["subject"] = _wire(subject)
    if annotations:
        members["annotations"] = dict(annotations)
    text = json.dumps(members, separators=(",", ":"), ensure_ascii=False)
    try:
        return parse(text.encode())
    except UnicodeEncodeError:
        raise UsageError("a title or an annotation is not text (UTF-8)") from None


def _wire(descriptor: Descriptor) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
