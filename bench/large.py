"""A large cache made quickly: many small images that share layers as real ones do.

Invariants:
- the bytes of every blob are those of its digest, and every image is whole;
- the files and rows are those that pulls of the same images would have left, without the fsyncs.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.rig import CONFIG, LAYER, MANIFEST
from cache.database import open_database
from cache.files import BLOB_MODE, Files
from cache.layout import DATABASE
from registryd.access import EVERYBODY

#: The registry that the images are of, and images of one repository.
HOST, TAGS = "up.test", 4
#: Layers that images of their own kind share, and layers that only one has.
SHARED, OWN = 2, 3
#: Images that build on the same bases.
FAMILY = 100
YEAR = 365 * 86400.0


@dataclass
class Rows:
    """What goes into ``cache.db``."""

    blobs: list[tuple[str, int, str, float, float]] = field(default_factory=list)
    links: list[tuple[str, str, int, str, str]] = field(default_factory=list)
    names: list[tuple[str, str, str, str, int, int, float]] = field(default_factory=list)
    members: list[tuple[str, str]] = field(default_factory=list)


def make(root: Path, images: int, seed: int = 1) -> None:
    """A cache with so many images, and about five times as many blobs."""
    files = Files(root)
    files.prepare()
    try:
        rows = Rows()
        _fill(root / "blobs" / "sha256", images, random.Random(seed), rows)
        db, _ = open_database(root / DATABASE)
        _write(db, rows)
        db.close()
    finally:
        files.release()


def _fill(folder: Path, images: int, chance: random.Random, rows: Rows) -> None:
    now = time.time() - 7 * 86400

    def put(content: bytes, kind: str = "") -> tuple[str, int]:
        encoded = hashlib.sha256(content).hexdigest()
        path = folder / encoded
        path.write_bytes(content)
        path.chmod(BLOB_MODE)
        used = now + chance.random() * 86400
        rows.blobs.append((f"sha256:{encoded}", len(content), kind, now, used))
        return f"sha256:{encoded}", len(content)

    for number, bases in zip(range(images), _bases(put, chance), strict=False):
        repository = f"{HOST}/group{number % 97}/app{number // TAGS}"
        layers = [*bases, *(put(chance.randbytes(24)) for _ in range(OWN))]
        config = {
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"number": str(number)}},
            "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in layers]},
        }  # fmt: skip
        children = [(*put(json.dumps(config).encode()), CONFIG), *((*x, LAYER) for x in layers)]
        listed = [{"mediaType": k, "digest": d, "size": s} for d, s, k in children]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": listed[0]}
        root, size = put(json.dumps(manifest | {"layers": listed[1:]}).encode(), MANIFEST)
        rows.links += [(root, d, s, k, "all") for d, s, k in children]
        rows.names.append(
            (f"{repository}:{number % TAGS}", repository, root, MANIFEST, size, 1, now)
        )
        rows.members += [(repository, d) for d in {root, *(d for d, _, _ in children)}]


def _bases(put: object, chance: random.Random) -> Iterator[list[tuple[str, int]]]:
    while True:
        bases = [put(chance.randbytes(24)) for _ in range(SHARED)]  # type: ignore[operator]
        yield from [bases] * FAMILY


def _write(db: sqlite3.Connection, rows: Rows) -> None:
    until = time.time() + YEAR
    into = {
        "blobs (digest, size, media_type, added, used)": sorted(rows.blobs),
        "links (parent, child, size, media_type, rule)": sorted(rows.links),
        "names (name, repository, digest, media_type, size, complete, checked)": sorted(rows.names),
        "members (repository, digest)": sorted(set(rows.members)),
        "grants (repository, principal, expires)": sorted(
            {(repository, EVERYBODY, until) for repository, _ in rows.members}
        ),
    }
    db.execute("BEGIN")
    for table, values in into.items():
        marks = ", ".join("?" * len(values[0]))
        db.executemany(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608 (our own)
    db.execute("COMMIT")
