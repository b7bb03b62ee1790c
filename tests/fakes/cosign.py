"""Signatures as cosign makes them: the same payload, manifest, annotation, tag and keys."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ARTIFACT_TYPE = "application/vnd.dev.cosign.artifact.sig.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Signer:
    """A pair of keys; the public one is in a file."""

    key: ec.EllipticCurvePrivateKey
    public: Path

    @classmethod
    def make(cls, path: Path) -> Signer:
        """A new pair, its public key in this file as ``cosign.pub`` has it."""
        key = ec.generate_private_key(ec.SECP256R1())
        path.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return cls(key, path)

    def sign(self, payload: bytes) -> str:
        """The signature of a payload, as it stands in the annotation."""
        return base64.b64encode(self.key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()


def payload_of(repository: str, digest: str, **changes: Any) -> bytes:
    """What cosign signs of an image."""
    critical: dict[str, Any] = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return json.dumps(
        {"critical": critical | changes, "optional": None}, separators=(",", ":")
    ).encode()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def point(media_type: str, content: bytes) -> dict[str, Any]:
    """The descriptor of these bytes."""
    return {"mediaType": media_type, "size": len(content), "digest": digest_of(content)}


def manifest_of(
    *signed: tuple[bytes, str], subject: dict[str, Any] | None = None
) -> tuple[bytes, bytes]:
    """The manifest that carries these payloads with their signatures, and its config."""
    config = json.dumps(
        {
            "architecture": "",
            "created": "0001-01-01T00:00:00Z",
            "history": [{"created": "0001-01-01T00:00:00Z"} for _ in signed],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(payload) for payload, _ in signed]},
            "config": {},
        },
        separators=(",", ":"),
    ).encode()
    layers = [
        point(SIMPLE_SIGNING, payload)
        | {"annotations": {"dev.cosignproject.cosign/signature": signature}}
        for payload, signature in signed
    ]
    content: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": point(OCI_CONFIG, config),
        "layers": layers,
    }
    if subject is not None:
        content |= {"artifactType": ARTIFACT_TYPE, "subject": subject}
    return json.dumps(content, separators=(",", ":")).encode(), config


def tag_of(digest: str) -> str:
    """Where cosign puts the signatures of a digest."""
    return digest.replace(":", "-") + ".sig"


def attach(address: str, repository: str, digest: str, *signed: tuple[bytes, str]) -> None:
    """Put signatures into a registry that everyone may write to, under the tag for a digest."""
    manifest, config = manifest_of(*signed)
    for blob in (config, *(payload for payload, _ in signed)):
        place = _ask(address, "POST", f"/v2/{repository}/blobs/uploads/").getheader("Location", "")
        path = place.partition(address)[2]
        _ask(address, "PUT", f"{path}&digest={digest_of(blob)}", blob)
    target = f"/v2/{repository}/manifests/{tag_of(digest)}"
    _ask(address, "PUT", target, manifest, {"Content-Type": OCI_MANIFEST})


def _ask(
    address: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status < 300, said
        return answer
    finally:
        connection.close()
