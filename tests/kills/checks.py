"""What must be true of a cache's folder, whenever its daemon was killed. Reads, changes nothing.

Every file is read and hashed each time; nothing of the product's code is used to judge it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

LENGTHS = {"sha256": 64, "sha512": 128}
REF_NAME, MADE_OF = "org.opencontainers.image.ref.name", "vnd.registryd.made.of"
#: What may stand in a root while no daemon starts, beside ``blobs/`` and ``ingest/``.
_TOP = re.compile(
    r"oci-layout|index\.json|lock|cache\.db(-wal|-shm)?|quarantine(/[a-z0-9]+-[0-9a-f]+)?"
    r"|uploads(/[0-9a-f]{40}\.json)?|blobs(/sha(256|512))?|ingest"
    r"|gateway(/images|/work)?|gateway\.db(-wal|-shm)?"
)
_ASIDE = re.compile(r"cache\.db(-wal|-shm)?\.damaged(\.\d+)?")
_PAIR = re.compile(r"((?:sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128}))\.(data|ranges)")


@dataclass
class State:
    """A folder as it was found: what is wrong, and what is there."""

    faults: list[str] = field(default_factory=list)
    blobs: dict[str, int] = field(default_factory=dict)
    #: By digest, which file it is: one that went and came back is another.
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: By ``index.json``, and by the rows of ``cache.db`` that say that all is there.
    names: dict[str, str] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    #: What was made here, by what it was made of.
    made: dict[str, str] = field(default_factory=dict)
    #: By digest, how many bytes of it the journal says to be in its file.
    arriving: dict[str, int] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)


def examine(root: Path, *, incomplete: bool = False) -> State:
    """Look at a root of which nobody runs.

    ``incomplete``: the disk has changed a blob, which is there still, or put aside.
    """
    state = State()
    _read_blobs(root, state, spoilt=incomplete)
    _read_index(root, state)
    _read_rows(root, state)
    if not incomplete:
        for source, names in _sources(state):
            for name, digest in names.items():
                state.faults += [
                    f"{source}: {name} needs {missing}, which is not here"
                    for missing in absent(root, digest)
                ]
    _read_rest(root, state)
    return state


def _sources(state: State) -> list[tuple[str, dict[str, str]]]:
    return [("index.json", state.names), ("index.json", state.made), ("cache.db", state.rows)]


def settled(root: Path, state: State, *, aside: bool = False) -> list[str]:
    """What the start of a daemon should have taken away; ``aside``: a database was put aside."""
    faults = [
        f"{name} is left after the start"
        for name in state.strays
        if not (aside and _ASIDE.fullmatch(name))
    ]
    names = {path.name for path in (root / "ingest").iterdir()}
    for name in sorted(names):
        match = _PAIR.fullmatch(name)
        both = match and {f"{match[1]}.data", f"{match[1]}.ranges"} <= names
        if not both:
            faults.append(f"ingest/{name} is left after the start")
        elif match and match[1].replace("-", ":", 1) in state.blobs:
            faults.append(f"ingest/{name} is left though the blob is here")
    return faults


def _read_blobs(root: Path, state: State, *, spoilt: bool) -> None:
    for path in root.glob("blobs/*/*"):
        algorithm, name = path.parent.name, path.name
        digest, status = f"{algorithm}:{name}", path.lstat()
        if len(name) != LENGTHS.get(algorithm, -1):
            state.faults.append(f"{digest} is no digest")
            continue
        if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) != 0o444:
            state.faults.append(f"{digest} has mode {status.st_mode:o}")
        actual = hashlib.new(algorithm, path.read_bytes()).hexdigest()
        if actual != name:
            state.faults += [] if spoilt else [f"{digest} has bytes of {actual}"]
        else:
            state.blobs[digest] = status.st_size
            state.files[digest] = status.st_ino, status.st_mtime_ns


def _read_index(root: Path, state: State) -> None:
    path = root / "index.json"
    if not path.exists():
        return
    try:
        entries = json.loads(path.read_bytes())["manifests"]
    except (ValueError, KeyError) as error:
        state.faults.append(f"index.json cannot be read: {error!r}")
        return
    for entry in entries:
        if name := entry["annotations"].get(REF_NAME):
            state.names[name] = entry["digest"]
        else:
            state.made[entry["annotations"][MADE_OF]] = entry["digest"]


def _read_rows(root: Path, state: State) -> None:
    """The complete names of the database, from a copy: to open it is to change it."""
    if not (root / "cache.db").exists():
        return
    with TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            source = root / f"cache.db{suffix}"
            if source.exists():
                shutil.copyfile(source, Path(folder) / source.name)
        with closing(sqlite3.connect(Path(folder) / "cache.db")) as db:
            try:
                verdict = db.execute("PRAGMA integrity_check").fetchone()[0]
                if verdict != "ok":
                    state.faults.append(f"cache.db: {verdict}")
                tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
                if "names" in tables:
                    rows = db.execute("SELECT name, digest FROM names WHERE complete = 1")
                    state.rows = dict(rows.fetchall())
            except sqlite3.DatabaseError as error:
                state.faults.append(f"cache.db: {error}")


def _read_rest(root: Path, state: State) -> None:
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name).relative_to(root)
            if path.parts[0] in ("blobs", "ingest") and len(path.parts) > 1:
                continue
            if not _TOP.fullmatch(str(path)):
                state.strays.append(str(path))
    for journal in (root / "ingest").glob("*.ranges"):
        held, length = 0, 0
        content = journal.with_suffix(".data")
        if content.exists():
            length = content.stat().st_size
        text = journal.read_text(errors="replace")
        for line in text[: text.rfind("\n") + 1].splitlines():
            if match := re.fullmatch(r"(\d+) (\d+)", line):
                start, stop = int(match[1]), int(match[2])
                held = max(held, stop) if start <= held and stop <= length else held
        state.arriving[journal.stem.replace("-", ":", 1)] = held


def absent(root: Path, digest: str) -> Iterator[str]:
    """What a manifest needs and is not in the folder; of an index one image is enough."""
    path = root / "blobs" / digest.replace(":", "/")
    if not path.exists():
        yield digest
        return
    document: dict[str, Any] = json.loads(path.read_bytes())
    if "manifests" in document:
        each = [list(absent(root, entry["digest"])) for entry in document["manifests"]]
        if each and all(each):
            yield from each[0]
        return
    for child in (document["config"], *document["layers"]):
        if not (root / "blobs" / child["digest"].replace(":", "/")).exists():
            yield str(child["digest"])
