"""Made-up manifests and indexes as JSON, for the tests of what reads them."""

import json
from typing import Any

from cache.content import Descriptor, Digest
from registryd.oci.manifest import Index, parse
from registryd.oci.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST


def entry(content: str, kind: str = OCI_LAYER_GZIP, **more: Any) -> dict[str, Any]:
    """A descriptor's JSON for made-up content."""
    raw = content.encode()
    return {"mediaType": kind, "digest": str(Digest.of(raw)), "size": len(raw), **more}


def value(content: str, kind: str = OCI_LAYER_GZIP) -> Descriptor:
    """The same as a value."""
    return Descriptor.of(kind, content.encode())


def image(**changes: Any) -> dict[str, Any]:
    """An OCI manifest of two layers; a change to None takes a member away."""
    members = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": entry("config", OCI_CONFIG),
        "layers": [entry("one"), entry("two")],
        **changes,
    }
    return {key: member for key, member in members.items() if member is not None}


def index(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An OCI index of these entries."""
    members = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries), **changes}
    return {key: member for key, member in members.items() if member is not None}


def platform_entry(content: str, platform: str, **more: Any) -> dict[str, Any]:
    """An index entry for a platform."""
    names = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    return entry(content, OCI_MANIFEST, platform=names, **more)


def dump(members: object) -> bytes:
    """JSON with odd white space, which must survive."""
    return json.dumps(members, indent=3).encode() + b"\n"


def parse_index(*entries: dict[str, Any]) -> Index:
    """An index with these entries, parsed."""
    document = parse(dump(index(*entries)))
    assert isinstance(document, Index)
    return document
