"""Where things lie under a cache root, and what ``index.json`` says. Pure: paths and texts only.

The root is an OCI image layout (image specification 1.1, "Image Layout") with three neighbours:
``ingest/`` (what is arriving), ``cache.db`` (the index) and ``lock`` (who writes here).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cache.content import ALGORITHMS, Descriptor, Digest
from cache.errors import CacheError, DigestInvalid

LAYOUT_FILE = "oci-layout"
LAYOUT_TEXT = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE = "index.json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
DATABASE = "cache.db"
LOCK = "lock"
BLOBS = "blobs"
INGEST = "ingest"

#: What an ingest's two files are called after its key.
DATA_SUFFIX = ".data"
RANGES_SUFFIX = ".ranges"
UPLOAD_PREFIX = "upload-"
PUT_PREFIX = "put-"
DRAFT_PREFIX = "draft-"


def blob_path(root: Path, digest: Digest) -> Path:
    """Where the blob of this digest is, once it is complete and proven."""
    return root / BLOBS / digest.algorithm / digest.hex


def blob_folders(root: Path) -> list[Path]:
    """The folders that hold blobs, one an algorithm."""
    return [root / BLOBS / algorithm for algorithm in ALGORITHMS]


def ingest_key(digest: Digest) -> str:
    """The key under which a digest arrives: it can be found again after a restart."""
    return f"{digest.algorithm}-{digest.hex}"


def digest_of_key(key: str) -> Digest | None:
    """The digest that arrives under this key, or None for an upload session or a stranger."""
    algorithm, _, encoded = key.partition("-")
    try:
        return Digest(algorithm, encoded)
    except DigestInvalid:
        return None


def render_index(names: Iterable[tuple[str, Descriptor]]) -> bytes:
    """``index.json`` for these names, in the order given."""
    manifests = [
        {
            "mediaType": descriptor.media_type,
            "digest": str(descriptor.digest),
            "size": descriptor.size,
            "annotations": {REF_NAME: name},
        }
        for name, descriptor in names
    ]
    document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}
    return json.dumps(document, separators=(",", ":")).encode()


def parse_index(content: bytes) -> list[tuple[str, Descriptor]]:
    """The names an ``index.json`` of ours gives; entries that cannot be read are left out."""
    names = []
    with suppress(ValueError, RecursionError, AttributeError, TypeError):
        for entry in json.loads(content).get("manifests", ()):
            with suppress(CacheError, KeyError, ValueError, TypeError, AttributeError):
                digest = Digest.parse(entry["digest"])
                descriptor = Descriptor(str(entry["mediaType"]), digest, int(entry["size"]))
                names.append((str(entry["annotations"][REF_NAME]), descriptor))
    return names
