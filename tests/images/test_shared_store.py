"""Writing a store that others read: whole files, then names, by one writer after the other."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch
from cache.layout import blob_path
from cache.lower_index import entry
from registryd.images.errors import NotAnImage
from registryd.images.shared_store import KEPT, LOCK, STALE, SharedStore
from registryd.oci.errors import UsageError
from tests.fakes.registry import make_image

CONTENT = b"some bytes " * 300_000
BLOB = Descriptor.of("text/plain", CONTENT)


def put(store: SharedStore, place: Path, content: bytes = CONTENT) -> None:
    """Give it the blob from a file that holds this."""
    (place / "source").write_bytes(content)
    file = os.open(place / "source", os.O_RDONLY)
    try:
        store.put(file, BLOB)
    finally:
        os.close(file)


def names(store: SharedStore) -> set[str]:
    listed = json.loads((store.root / "index.json").read_text())["manifests"]
    return {each["annotations"]["org.opencontainers.image.ref.name"] for each in listed}


def test_a_blob_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """Wrong bytes leave nothing; what is there and wrong is seen, by its size or (asked to) by all
    of it, and written anew; nobody may write to a blob."""
    store, path = SharedStore(tmp_path / "s"), blob_path(tmp_path / "s", BLOB.digest)
    store.prepare()
    with pytest.raises(DigestMismatch):
        put(store, tmp_path, CONTENT[:-1] + b"x")
    left = list((tmp_path / "s" / "blobs").rglob("*.*")), store.has(BLOB)
    put(store, tmp_path)
    sound = store.has(BLOB, proven=True), path.stat().st_mode & 0o777
    path.chmod(0o644)
    path.write_bytes(CONTENT[:-1] + b"x")
    believed, proven, gone = store.has(BLOB), store.has(BLOB, proven=True), not path.exists()

    assert ([], False) == left
    assert (True, 0o444) == sound
    assert (True, False, True) == (believed, proven, gone)


def test_many_writers_lose_no_name(tmp_path: Path) -> None:
    """Writers that enter names at the same moment all find theirs there, those of others too, and
    the file is whole whenever anybody looks."""
    store, over, torn = SharedStore(tmp_path / "s"), threading.Event(), list[str]()
    store.prepare()
    wanted = {f"a.b/c{number}:1" for number in range(12)}

    def look() -> None:
        while not over.is_set():
            if (store.root / "index.json").exists():
                try:
                    names(store)
                except ValueError as error:
                    torn.append(str(error))

    def enter(name: str) -> None:
        SharedStore(store.root).enter([entry(BLOB, name, 1.0)], frozenset())

    reader = threading.Thread(target=look)
    reader.start()
    with ThreadPoolExecutor(12) as writers:
        list(writers.map(enter, wanted))
    over.set()
    reader.join()

    assert (wanted, []) == (names(store), torn)
    assert not (store.root / LOCK).exists()


def test_a_writer_that_died(tmp_path: Path) -> None:
    """Its turn ends after a while, by the file system's clock; what it left changes nothing."""
    store = SharedStore(tmp_path / "s")
    store.prepare()
    (store.root / LOCK).write_text("elsewhere 1\n")
    old = time.time() - STALE - 1
    os.utime(store.root / LOCK, (old, old))
    store.enter([entry(BLOB, "a.b/c:1", 1.0)], frozenset())
    store.enter([entry(BLOB, "a.b/d:1", 1.0)], frozenset({"a.b/c:1"}))

    assert {"a.b/d:1"} == names(store)
    assert {"index.json", "oci-layout"} == {path.name for path in store.root.iterdir()}


def test_what_no_name_leads_to(tmp_path: Path) -> None:
    """Pruning takes away what nothing leads to and nobody has counted on for a day, leftovers of
    writers that died too; what a name leads to stays, however old, and so does what is young."""
    store = SharedStore(tmp_path / "s")
    store.prepare()
    manifest = make_image(b"layer")
    root = Descriptor.of("application/vnd.oci.image.manifest.v1+json", manifest)
    folder = blob_path(store.root, root.digest).parent
    folder.mkdir(parents=True)
    contents = {"named": manifest, "layer": b"layer", "loose": b"loose", "counted": CONTENT}
    paths = {key: blob_path(store.root, Digest.of(raw)) for key, raw in contents.items()}
    paths["partial"] = folder / ".partial-1"
    old = time.time() - KEPT - 60
    for key, path in paths.items():
        path.write_bytes(contents.get(key, b"half"))
        os.utime(path, (old, old))
    blob_path(store.root, Digest.of(b"young")).write_bytes(b"young")
    store.enter([entry(root, "a.b/c:1", 1.0)], frozenset())
    counted = store.has(BLOB)
    taken = store.prune()

    assert (True, (2, len(b"loosehalf"))) == (counted, taken)
    there = {key for key, path in paths.items() if path.exists()}
    assert {"named", "layer", "counted"} == there
    assert blob_path(store.root, Digest.of(b"young")).exists()


def test_pruning_takes_nothing_of_others(tmp_path: Path) -> None:
    """A file that no store has stays, and so does all that a link leads to, in place of the folder
    of blobs or of the one above it."""
    store, others = SharedStore(tmp_path / "s"), tmp_path / "o" / "sha256"
    store.prepare()
    others.mkdir(parents=True)
    put(store, tmp_path)
    theirs, note = others / BLOB.digest.hex, blob_path(store.root, BLOB.digest).with_name("notes")
    note.touch()
    os.utime(note, (1, 1))
    taken = store.prune(), note.exists()
    for link, target in (("sha256", others), ("", others.parent)):
        theirs.write_bytes(b"theirs")
        os.utime(theirs, (1, 1))
        place = store.root / "blobs" / link
        place.rename(tmp_path / f"was{link}")
        place.symlink_to(target)
        with pytest.raises(UsageError, match="is a link"):
            store.prune()

    assert (((0, 0), True), True) == (taken, theirs.exists())


def test_only_a_layout_is_written_to(tmp_path: Path) -> None:
    """A cache's own root is refused, and so is a folder of something else."""
    cache, other = tmp_path / "cache", tmp_path / "other"
    for folder, name in ((cache, "cache.db"), (other, "notes")):
        folder.mkdir()
        (folder / name).touch()

    with pytest.raises(UsageError, match="cache root"):
        SharedStore(cache).prepare()
    with pytest.raises(NotAnImage):
        SharedStore(other).prepare()
