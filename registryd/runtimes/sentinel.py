"""A tiny image that nobody else has: whoever holds its layer got it from where it was put.

Invariant: its layer holds the nonce, so no digest of it can be known, or held, beforehand.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass

from cache.content import Digest
from registryd.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registryd.oci.platform import Platform

REPOSITORY = "registryd/doctor"


@dataclass(frozen=True, slots=True)
class Sentinel:
    """The image's tag and its three blobs."""

    nonce: str
    manifest: bytes
    config: bytes
    layer: bytes

    @property
    def name(self) -> str:
        """Repository and tag, in any registry."""
        return f"{REPOSITORY}:{self.nonce}"

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return Digest.of(self.manifest)

    @property
    def digests(self) -> tuple[str, ...]:
        """All that a runtime has after it pulled the image."""
        return tuple(str(Digest.of(raw)) for raw in (self.manifest, self.config, self.layer))


def sentinel(nonce: str, platform: Platform) -> Sentinel:
    """The image with this nonce, for this machine."""
    layer = _layer(nonce)
    raw = {
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(gzip.decompress(layer)))]},
    }
    config = json.dumps(raw).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(OCI_CONFIG, config),
        "layers": [_descriptor(OCI_LAYER_GZIP, layer)],
    }
    return Sentinel(nonce, json.dumps(manifest).encode(), config, layer)


def _descriptor(media_type: str, raw: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(raw)), "size": len(raw)}


def _layer(nonce: str) -> bytes:
    """One file, which holds the nonce."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("nonce")
        entry.size = len(nonce)
        archive.addfile(entry, io.BytesIO(nonce.encode()))
    return gzip.compress(packed.getvalue(), mtime=0)
