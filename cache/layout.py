"""Where things lie under a cache root, and what ``index.json`` says. Pure: paths and texts only.

The root is an OCI image layout (image specification 1.1, "Image Layout") with three neighbours:
``ingest/`` (what is arriving), ``cache.db`` (the index) and ``lock`` (who writes here).
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from cache.content import ALGORITHMS, Descriptor, Digest
from cache.errors import CacheError, DigestInvalid

#: A manifest in ``index.json``: its name (or what it was made of), its media type, digest and size.
Entry = tuple[str, str, str, int]

LAYOUT_FILE = "oci-layout"
LAYOUT_TEXT = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE = "index.json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
#: Of a manifest that was made here: the digest of the one that it was made of.
MADE_OF = "vnd.registryd.made.of"
DATABASE = "cache.db"
LOCK = "lock"
BLOBS = "blobs"
INGEST = "ingest"
QUARANTINE = "quarantine"

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


def render_index(names: Iterable[Entry], made: Iterable[Entry] = ()) -> bytes:
    """``index.json`` for these names, and what was made of what, in the order given."""
    entries = [*_rendered(names, REF_NAME), *_rendered(made, MADE_OF)]
    head = f'{{"schemaVersion":2,"mediaType":"{INDEX_TYPE}","manifests":['
    return f"{head}{','.join(entries)}]}}".encode()


def _rendered(entries: Iterable[Entry], key: str) -> Iterator[str]:
    # Written out, for there may be many: json.dumps of each would take five times as long.
    text = json.encoder.encode_basestring_ascii
    for value, kind, digest, size in entries:
        yield (
            f'{{"mediaType":{text(kind)},"digest":"{digest}","size":{size},'
            f'"annotations":{{"{key}":{text(value)}}}}}'
        )


def parse_index(content: bytes, known: Container[str] = ()) -> list[tuple[str, Descriptor]]:
    """The names an ``index.json`` of ours gives, but for those ``known``.

    Entries that cannot be read are left out.
    """
    return _parsed(content, REF_NAME, known)


def parse_made(content: bytes) -> list[tuple[Digest, Descriptor]]:
    """What was made here by an ``index.json`` of ours, each with what it was made of."""
    found: list[tuple[Digest, Descriptor]] = []
    if MADE_OF.encode() not in content:
        return found
    for subject, descriptor in _parsed(content, MADE_OF):
        with suppress(DigestInvalid):
            found.append((Digest.parse(subject), descriptor))
    return found


def _parsed(content: bytes, key: str, known: Container[str] = ()) -> list[tuple[str, Descriptor]]:
    found = []
    with suppress(ValueError, RecursionError, AttributeError, TypeError):
        for entry in json.loads(content).get("manifests", ()):
            with suppress(CacheError, KeyError, ValueError, TypeError, AttributeError):
                if (name := str(entry["annotations"][key])) in known:
                    continue
                digest = Digest.parse(entry["digest"])
                descriptor = Descriptor(str(entry["mediaType"]), digest, int(entry["size"]))
                found.append((name, descriptor))
    return found
