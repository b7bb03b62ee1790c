"""Content for tests: the same bytes in every process."""

import json
import random
from pathlib import Path

from cache.content import Descriptor, Digest
from cache.index import Links, Rule

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat."""
    return random.Random(seed).randbytes(size)


def layer(text: str) -> tuple[bytes, Descriptor]:
    """A small layer."""
    content = text.encode()
    return content, Descriptor.of(LAYER_TYPE, content)


def parent(*children: Descriptor, rule: Rule = "all") -> tuple[bytes, Descriptor, Links]:
    """A manifest (or, by the rule ``any``, an index) of these children."""
    kind = MANIFEST_TYPE if rule == "all" else INDEX_TYPE
    content = json.dumps({"children": [str(child.digest) for child in children]}).encode()
    return content, Descriptor.of(kind, content), Links(kind, children, rule)


def entries(root: Path) -> dict[str, str]:
    """What ``index.json`` says now: name -> digest."""
    document = json.loads((root / "index.json").read_bytes())
    return {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"]
        for entry in document["manifests"]
    }


def blobs(root: Path) -> set[Digest]:
    """The blobs that are on disk now."""
    return {Digest(path.parent.name, path.name) for path in root.glob("blobs/*/*")}


def arriving(root: Path) -> list[str]:
    """The files that are in ``ingest/`` now."""
    return sorted(path.name for path in (root / "ingest").iterdir())
