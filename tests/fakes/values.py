"""What a scripted registry holds: repositories, digests, images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    if algorithm not in ("sha256", "sha384", "sha512"):
        algorithm = "sha256"
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def point(media_type: str, content: bytes, **more: object) -> dict[str, object]:
    """A descriptor."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


def make_image(*layers: bytes, config: bytes = b'{"os":"linux","architecture":"amd64"}') -> bytes:
    """The manifest of an image with these layers."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": point(OCI_CONFIG, config),
            "layers": [point(OCI_LAYER, layer) for layer in layers],
        }
    ).encode()


def make_artifact(
    subject: Mapping[str, object], artifact_type: str, annotations: Mapping[str, str] | None = None
) -> bytes:
    """The manifest of an artifact without content (``{}``) that is attached to a subject."""
    empty = point(OCI_EMPTY, b"{}")
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": empty,
            "layers": [empty],
            "subject": dict(subject),
            "annotations": dict(annotations or {}),
        }
    ).encode()


def make_index(*manifests: Mapping[str, object], media_type: str = OCI_INDEX) -> bytes:
    """An index of these descriptors."""
    return json.dumps(
        {"schemaVersion": 2, "mediaType": media_type, "manifests": [dict(m) for m in manifests]}
    ).encode()


@dataclass
class Repository:
    """What one repository holds; manifests are there by tag and by digest."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def tags(self) -> list[str]:
        return [target for target in self.manifests if ":" not in target]
