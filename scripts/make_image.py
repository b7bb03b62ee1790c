"""Make a real, runnable image as an OCI layout from files of this machine.

    python scripts/make_image.py OUT_LAYOUT [--tag T] [--base DIR] [--python EXE] [--index]

Invariants:
- the same machine and arguments give the same digest: entries sorted, times and owners 0;
- no network, and no package of this project: demo and benches use it before anything is installed;
- a blob appears under its digest only when it is whole, and index.json is replaced in one step.

Layers: a root with a shell (gzip), CPython and its standard library (zstd), an application with
data (gzip), and a small one that adds a file and whites one out (gzip).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import secrets
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

import zstandard

if not __package__:  # run as a command: the folder above makes this one importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.machine_tree import Entry, Tree, app_tree, base_tree, last_tree, python_tree

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+"
REF_NAME = "org.opencontainers.image.ref.name"
EPOCH = "1970-01-01T00:00:00Z"

GZIP_LEVEL = 4  # about three times as fast as 9, a few per cent larger
ZSTD_LEVEL = 3
CHUNK = 1 << 20
DATA_BYTES = 10 << 20


@dataclass(frozen=True)
class Blob:
    """What was written to the layout: its descriptor's fields, and a layer's uncompressed side."""

    media_type: str
    digest: str
    size: int
    diff_id: str = ""
    unpacked: int = 0

    def descriptor(self, **more: object) -> dict[str, object]:
        """The descriptor as manifests and indexes write it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **more}


class Writable(Protocol):
    """What a writer writes to."""

    def write(self, content: bytes, /) -> object:
        """Take all of these bytes."""


class HashedFile:
    """Passes on what is written to it, and counts and hashes it."""

    def __init__(self, inner: Writable) -> None:
        self.inner, self.hash, self.count = inner, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        """Take all of these bytes."""
        self.hash.update(content)
        self.count += len(content)
        self.inner.write(content)
        return len(content)

    def flush(self) -> None:
        """Nothing is kept back here; compressors ask."""

    @property
    def digest(self) -> str:
        """The digest of everything so far."""
        return f"sha256:{self.hash.hexdigest()}"


@contextmanager
def arriving(layout: Path) -> Iterator[HashedFile]:
    """A file that gets its digest as name when the block ends well, and is removed otherwise."""
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial-{secrets.token_hex(8)}"
    try:
        with open(partial, "xb") as file:
            hashed = HashedFile(file)
            yield hashed
        os.replace(partial, folder / hashed.hash.hexdigest())
    finally:
        partial.unlink(missing_ok=True)


def write_blob(layout: Path, media_type: str, content: object) -> Blob:
    """Store a JSON document, compact and with sorted keys."""
    raw = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    with arriving(layout) as file:
        file.write(raw)
    return Blob(media_type, file.digest, file.count)


def write_layer(layout: Path, tree: Tree, compression: str) -> Blob:
    """Store a tree as a compressed layer."""
    with arriving(layout) as packed, _compressor(packed, compression) as compressor:
        plain = HashedFile(compressor)
        stream = cast("IO[bytes]", plain)
        with tarfile.open(fileobj=stream, mode="w|", bufsize=CHUNK) as archive:
            for path in sorted(tree.entries):
                _add(archive, path, tree.entries[path])
    return Blob(LAYER_TYPE + compression, packed.digest, packed.count, plain.digest, plain.count)


def _compressor(target: HashedFile, compression: str) -> AbstractContextManager[Writable]:
    if compression == "gzip":
        return gzip.GzipFile("", "wb", GZIP_LEVEL, cast("IO[bytes]", target), mtime=0)
    writer = zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(
        cast("IO[bytes]", target), closefd=False
    )
    return cast("AbstractContextManager[Writable]", writer)


def _add(archive: tarfile.TarFile, path: str, entry: Entry) -> None:
    member = tarfile.TarInfo(path.lstrip("/"))
    member.mode, member.mtime = entry.mode, entry.time
    member.uid, member.gid = entry.owner
    if entry.link:
        member.type, member.linkname = tarfile.SYMTYPE, entry.link
        archive.addfile(member)
    elif entry.directory:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif entry.source:
        with open(entry.source, "rb") as file:
            member.size = os.fstat(file.fileno()).st_size
            archive.addfile(member, file)
    else:
        member.size = len(entry.content)
        archive.addfile(member, io.BytesIO(entry.content))


# The image


@dataclass(frozen=True)
class Made:
    """What was made: the root's descriptor, the layers, and their size unpacked, in bytes."""

    media_type: str
    digest: str
    size: int
    layers: tuple[Blob, ...]

    @property
    def unpacked(self) -> int:
        """Size of all layers as tar archives."""
        return sum(layer.unpacked for layer in self.layers)


def make_image(
    layout: Path,
    *,
    tag: str = "latest",
    base: Path | None = None,
    python: Path | None = None,
    index: bool = False,
    data_bytes: int = DATA_BYTES,
) -> Made:
    """Make the image in ``layout`` (created where missing) under ``tag``.

    ``base`` is a directory to be the first layer; ``index`` makes an index of two platforms.
    Raises OSError or subprocess.CalledProcessError when the machine lacks what is needed.
    """
    first = base_tree(base)
    second = python_tree(python or Path(sys.executable), first.names())
    third = app_tree(second.names(), data_bytes)
    trees = (first, second, third, last_tree(third.names()))
    with ThreadPoolExecutor(2) as threads:  # compressors and hashes let go of the interpreter lock
        packing = ("gzip", "zstd", "gzip", "gzip")
        layers = tuple(
            threads.map(lambda pair: write_layer(layout, *pair), zip(trees, packing, strict=True))
        )
    own = own_architecture()
    root = _manifest(layout, layers, own)
    if index:
        other = "arm64" if own == "amd64" else "amd64"
        root = _index(layout, {own: root, other: _manifest(layout, layers, other)})
    name_root(layout, root, tag)
    return Made(root.media_type, root.digest, root.size, layers)


def own_architecture() -> str:
    """This machine's architecture in the words of images."""
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _manifest(layout: Path, layers: Sequence[Blob], architecture: str) -> Blob:
    steps = ("root file system with a shell", "CPython", "application and data", "settings")
    running = {
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"],
        "Cmd": ["python3", "/app/main.py"],
        "WorkingDir": "/app",
    }
    history = [f"make_image: {step}" for step in steps]
    return write_image(layout, layers, running, EPOCH, history=history, architecture=architecture)


def write_image(
    layout: Path,
    layers: Sequence[Blob],
    running: Mapping[str, object],
    created: str,
    *,
    history: Sequence[str] = (),
    architecture: str = "",
) -> Blob:
    """Store configuration (``running``: how it is started) and manifest of these layers."""
    config = {
        "architecture": architecture or own_architecture(),
        "os": "linux",
        "created": created,
        "config": running,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": step} for step in history],
    }
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": write_blob(layout, CONFIG_TYPE, config).descriptor(),
        "layers": [layer.descriptor() for layer in layers],
    }
    return write_blob(layout, MANIFEST_TYPE, document)


def _index(layout: Path, manifests: dict[str, Blob]) -> Blob:
    entries = [
        blob.descriptor(platform={"os": "linux", "architecture": architecture})
        for architecture, blob in manifests.items()
    ]
    document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
    return write_blob(layout, INDEX_TYPE, document)


def name_root(layout: Path, root: Blob, tag: str) -> None:
    """Write oci-layout and index.json; entries of other tags stay."""
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    path = layout / "index.json"
    listing = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
    if path.exists():
        listing = json.loads(path.read_bytes())
    others = [
        entry
        for entry in cast("list[dict[str, Any]]", listing["manifests"])
        if (entry.get("annotations") or {}).get(REF_NAME) != tag
    ]
    listing["manifests"] = [*others, root.descriptor(annotations={REF_NAME: tag})]
    partial = layout / f".index-{secrets.token_hex(8)}"
    partial.write_text(json.dumps(listing))
    os.replace(partial, path)


def main(arguments: list[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
    """The command: make the image and print its digest (standard output) and sizes (error)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("layout", type=Path, metavar="OUT_LAYOUT")
    parser.add_argument("--tag", default="latest")
    parser.add_argument("--base", type=Path, metavar="DIR", help="directory for the first layer")
    parser.add_argument("--python", type=Path, metavar="EXE", help="interpreter to take")
    parser.add_argument("--index", action="store_true", help="an index of two platforms")
    chosen = parser.parse_args(arguments)
    begun = clock()
    made = make_image(**vars(chosen))
    for layer in made.layers:
        print(f"{layer.digest} {layer.size} bytes ({layer.unpacked} unpacked)", file=sys.stderr)
    print(f"{made.unpacked} bytes unpacked, {clock() - begun:.1f} s", file=sys.stderr)
    print(made.digest)


if __name__ == "__main__":
    main()
