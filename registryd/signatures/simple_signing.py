"""cosign's signatures as values: the manifest that carries them, and the payload that is signed.

cosign, "Signature Specifications": Storage, Payloads, Signature Schemes.
Invariants:
- nothing is believed of a payload before its signature was verified over exactly its bytes;
- what a signature is for is the digest in its payload, and nothing else: the name in it is of no
  account, as the specification has it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import DigestInvalid
from registryd.oci import fields
from registryd.oci.manifest import Document, Manifest
from registryd.signatures.keys import PublicKey

SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
#: The artifact type of signatures that are attached by ``subject``.
ARTIFACT_TYPE: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
ANNOTATION: Final = "dev.cosignproject.cosign/signature"
PAYLOAD_TYPE: Final = "cosign container image signature"

_TAG = re.compile(r"sha256-[0-9a-f]{64}\.sig|sha512-[0-9a-f]{128}\.sig")

#: A payload is a few hundred bytes; claims that people add make it longer.
PAYLOAD_LIMIT: Final = 64 * 1024
#: Signatures of one image that are looked at: each costs a request and a verification.
SIGNATURES_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A payload, and the bytes that are said to sign it."""

    payload: Descriptor
    signature: bytes


def tag_of(digest: Digest) -> str:
    """The tag under which the signatures of a digest are."""
    return f"{digest.algorithm}-{digest.hex}.sig"


def is_signature(document: Document) -> bool:
    """Whether a manifest says that it carries signatures and nothing else.

    That alone proves nothing: there are runtimes that unpack a layer whatever it is called.
    """
    return (
        isinstance(document, Manifest)
        and bool(document.layers)
        and all(layer.media_type == SIMPLE_SIGNING for layer in document.layers)
    )


def is_signature_tag(tag: str | None) -> bool:
    """Whether a tag is one under which signatures are, and nobody looks for an image."""
    return tag is not None and _TAG.fullmatch(tag) is not None


def candidates(document: Document) -> list[Candidate]:
    """The signatures that a manifest carries; what makes no sense in it is none."""
    found = []
    try:
        layers = fields.entries(fields.load(document.raw), "layers")
    except fields.Malformed:
        return []
    for number, layer in enumerate(layers[:SIGNATURES_LIMIT]):
        where = f"layers[{number}]"
        try:
            payload = fields.descriptor(layer, where)
            said = fields.labels(fields.mapping(layer, where), "annotations").get(ANNOTATION, "")
            signature = base64.b64decode(said, validate=True)
        except (fields.Malformed, binascii.Error, ValueError):
            continue
        fits = payload.media_type == SIMPLE_SIGNING and payload.size <= PAYLOAD_LIMIT
        if fits and signature:
            found.append(Candidate(payload, signature))
    return found


def signer(
    digest: Digest, payload: bytes, signature: bytes, keys: Sequence[PublicKey]
) -> PublicKey | None:
    """The key that has signed this payload for this digest, or None."""
    key = author(payload, signature, keys)
    return key if key is not None and _signed_digest(payload) == digest else None


def author(payload: bytes, signature: bytes, keys: Sequence[PublicKey]) -> PublicKey | None:
    """The key that has signed these bytes, whatever they say, or None."""
    return next((key for key in keys if key.has_signed(payload, signature)), None)


def _signed_digest(payload: bytes) -> Digest | None:
    """The digest that a payload speaks of, None for a payload of another kind."""
    try:
        critical = fields.mapping(fields.load(payload).get("critical"), "critical")
        image = fields.mapping(critical.get("image"), "critical.image")
        if critical.get("type") != PAYLOAD_TYPE:
            return None
        return Digest.parse(fields.text(image, "docker-manifest-digest"))
    except (fields.Malformed, DigestInvalid):
        return None
