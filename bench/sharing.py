"""What deduplication beyond the digest would save, in bytes and in time: docs/sharing.md has it.

    python -m bench.sharing [--rounds N] [--size MB] [--on FILE_SYSTEM] [--exports] [--dir FOLDER]

Images are made of this machine's Debian packages, on one base, as images of a site are: a base, a
language or a compiler on it, a tool on that. Of the same images: recompressed (gzip, zstd), under
sha512, and written out to a folder on the cache's own file system. ``--on`` makes that file system
in a file, mounted for this process alone (root); ``--exports`` measures the last part only.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import zstandard

from bench.rig import MIB, Rig, Series, need, report, rig, rounds, spread, timed
from cache.content import Descriptor, Digest
from registryd.images.files import FileBody, write_blob
from scripts.machine_tree import Tree
from scripts.make_image import Blob, write_layer

#: What is in the base: what debootstrap puts into its smallest system.
BASE = "required"
#: Layers by name: packages of this machine (those that it lacks are left out).
PACKAGES = {
    "python": ("libpython3.11-stdlib", "libpython3.11-minimal", "python3.11-minimal", "python3.11"),
    "perl": ("perl-modules-5.36", "libperl5.36", "perl"),
    "gcc": ("gcc-12", "cpp-12", "libgcc-12-dev", "libc6-dev", "binutils-x86-64-linux-gnu"),
    "git": ("git", "git-man"),
    "skopeo": ("skopeo",),
    "nginx": ("nginx-light", "nginx-common", "nginx"),
}
#: Images by the layers that they have on the base.
IMAGES = {
    "python": ("python",),
    "science": ("python", "gcc"),
    "build": ("gcc", "perl", "git"),
    "mirror": ("skopeo",),
    "git": ("perl", "git"),
    "web": ("nginx",),
    "portal": ("nginx", "python"),
}
#: How hard zlib tries, for the layers of another compressor.
LEVELS = (1, 6, 9)
#: So much of each layer is enough to see that the rest will not be alike.
PIECE = 8 * MIB
#: A file system in a file for this process and those it starts.
MOUNT = """
disk=$1 kind=$2 top=$3; shift 3
truncate -s 8G "$disk" && mkfs."$kind" -q "$disk" && mount -o loop "$disk" "$top"
exec "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1000, help="MB of the exported image")
    parser.add_argument("--on", choices=("ext4", "xfs", "btrfs"), help="a file system of its own")
    parser.add_argument("--exports", action="store_true", help="only these")
    parser.add_argument("--dir", type=Path, help="where all of it goes")
    options = parser.parse_args()
    with rig(options.dir) as place:
        if options.on:
            again(place, options)
            return
        if not options.exports:
            images(place)
        exports(place, options.size * 1_000_000, options.rounds)
        print(f"\n(load of this machine in the end: {os.getloadavg()[0]:.1f})")


def again(place: Rig, options: argparse.Namespace) -> None:
    """The same on a new file system."""
    top = place.folder / "top"
    top.mkdir()
    words = [sys.executable, "-m", "bench.sharing", "--dir", top, "--exports"]
    words += ["--rounds", options.rounds, "--size", options.size]
    script = ["sh", "-ec", MOUNT, "sh", place.folder / "disk", options.on, top]
    print(f"\n## on {options.on}")
    subprocess.run(["unshare", "--mount", *map(str, [*script, *words])], check=True)


# Images


def images(place: Rig) -> None:
    """What the digest shares already, and what two more ways would."""
    kept = {kind: place.folder / kind for kind in ("gzip", "zstd")}
    layers = {kind: dict(layered(folder, kind)) for kind, folder in kept.items()}
    alone = sum(layers["gzip"][each].size for names in IMAGES.values() for each in ("", *names))
    by_digest = {kind: sum(blob.size for blob in each.values()) for kind, each in layers.items()}
    print(f"\n### {len(IMAGES)} images of {len(layers['gzip'])} layers\n")
    print("| what | MB |\n|---|---|")
    row("as gzip, each image alone", alone)
    row("as gzip, each digest once (as the cache has them)", by_digest["gzip"])
    row("the same images as zstd", by_digest["zstd"])
    row("both, as a cache keeps them that was asked for both", sum(by_digest.values()))
    recompressed(place, layers["gzip"], kept["gzip"])
    hashed(kept["gzip"], by_digest["gzip"])
    written_by_others(place, kept["gzip"], layers["gzip"])


def layered(folder: Path, kind: str) -> Iterator[tuple[str, Blob]]:
    """The base (its name is empty) and the layers, written to a layout's blobs."""
    base = Tree()
    take(base, packages(BASE))
    yield "", write_layer(folder, base, kind)
    for name, wanted in PACKAGES.items():
        tree = Tree(base.names())
        take(tree, wanted)
        yield name, write_layer(folder, tree, kind)


def packages(priority: str) -> list[str]:
    words = ["dpkg-query", "-W", "-f", "${Priority} ${Package}\n"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split()[1] for line in lines if line.startswith(f"{priority} ")]


def take(tree: Tree, wanted: list[str] | tuple[str, ...]) -> None:
    """The files of packages."""
    for package in wanted:
        listed = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True).stdout
        for path in listed.splitlines():
            with suppress(OSError):
                tree.take(path)


def row(words: str, size: int) -> None:
    print(f"| {words} | {size / 1e6:,.1f} |")


def recompressed(place: Rig, layers: dict[str, Blob], folder: Path) -> None:
    """Whether a gzip layer can be had back from its content, and what trying costs."""
    whole = same = tried = 0
    seconds = dict.fromkeys(LEVELS, 0.0)
    for blob in layers.values():
        plain = gzip.decompress(read(folder, blob.digest))
        whole += len(plain)
        plain = plain[:PIECE]
        tried += len(plain)
        theirs = compressed_by_go(place, plain)
        for level in LEVELS:
            began = time.process_time()
            squeezed = zlib.compressobj(level, zlib.DEFLATED, -15)
            made = squeezed.compress(plain) + squeezed.flush()
            seconds[level] += time.process_time() - began
            same += made in theirs
    row("content of the layers, not compressed", whole)
    speeds = (f"{tried / took / 1e6:,.0f}" for took in seconds.values())
    print(
        f"\n{same} of {len(layers)} layers (their first {PIECE // MIB} MiB) that skopeo packed come"
    )
    print(f"out of zlib again byte for byte, at any of the levels {LEVELS};")
    print(f"it packs {', '.join(speeds)} MB of content a second of the processor")


def compressed_by_go(place: Rig, plain: bytes) -> bytes:
    """The layer as skopeo packs it."""
    source, target = place.folder / "plain", place.folder / "packed"
    for folder in (source, target):
        shutil.rmtree(folder, ignore_errors=True)
    blobs = source / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, kind: str) -> dict[str, object]:
        name = hashlib.sha256(content).hexdigest()
        (blobs / name).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(content)}

    layer = put(plain, "application/vnd.oci.image.layer.v1.tar")
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
    packed = put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "config": packed, "layers": [layer]}
    root = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    (source / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (source / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    words = [need("skopeo"), "--insecure-policy", "copy", "-q", f"oci:{source}", f"oci:{target}"]
    subprocess.run(words, check=True)
    return max((each.read_bytes() for each in (target / "blobs/sha256").iterdir()), key=len)


def read(folder: Path, digest: str) -> bytes:
    return (folder / "blobs" / digest.replace(":", "/")).read_bytes()


def hashed(folder: Path, size: int) -> None:
    """What a second hash costs, and what it would save where the same image came by both."""
    whole = b"".join(path.read_bytes() for path in sorted((folder / "blobs/sha256").iterdir()))
    one = [processor(lambda: hashlib.sha256(whole)) for _ in range(5)]
    other = [processor(lambda: hashlib.sha512(whole)) for _ in range(5)]
    print("\n| hash of all layers, of the processor | median (min to max) |\n|---|---|")
    print(f"| sha256 | {spread(one)} |\n| sha512 | {spread(other)} |")
    row("saved where one image came by sha256 and by sha512", size)


def processor(act: Callable[[], object]) -> float:
    """Seconds of the processor that a call takes."""
    began = time.process_time()
    act()
    return time.process_time() - began


def written_by_others(place: Rig, folder: Path, layers: dict[str, Blob]) -> None:
    """The algorithms that other programs write, and what zstd takes to make of a layer."""
    found = set()
    for path in (place.folder / "packed/blobs").iterdir():
        found.add(path.name)
    plain = gzip.decompress(read(folder, layers["python"].digest))
    squeezed = processor(lambda: zstandard.ZstdCompressor(level=3).compress(plain))
    print(f"\nalgorithms in what skopeo writes: {', '.join(sorted(found))};")
    print(
        f"zstd -3 packs {len(plain) / squeezed / 1e6:,.0f} MB of content a second of the processor"
    )


# Exports


def exports(place: Rig, size: int, count: int) -> None:
    """A blob written out on its own file system: time, and bytes that the disk has less."""
    blob = place.folder / "blob"
    with blob.open("wb") as out:
        for _ in range(size // MIB):
            out.write(os.urandom(MIB))
    size = blob.stat().st_size
    blob.chmod(0o444)
    hashed = hashlib.sha256(blob.read_bytes()).hexdigest()
    descriptor = Descriptor("application/octet-stream", Digest("sha256", hashed), size)
    target, used = place.folder / "out", dict[str, int]()

    def told(name: str, act: Callable[[], object]) -> Series:
        def run() -> float:
            target.unlink(missing_ok=True)
            before = free(place.folder)
            took = timed(act)
            used[name] = before - free(place.folder)
            return took

        return Series(name, run)

    series = [
        told(
            "shared blocks where that can be (ours)", lambda: ours(blob, target, descriptor, True)
        ),
        told("read, hashed and written", lambda: ours(blob, target, descriptor, False)),
        told("read, written, not hashed (cp --reflink=never)", lambda: cp(blob, target)),
        told("a second name of the same file", lambda: os.link(blob, target)),
    ]
    rounds(series, count)
    report(f"a blob of {size // 1_000_000:,} MB written out", series, [])
    for name, taken in used.items():
        print(f"| {name}: bytes taken | {taken / 1e6:,.1f} MB |")


def free(folder: Path) -> int:
    """Bytes that are free, once what was removed is gone: XFS takes its time for that."""
    seen = -1
    while True:
        os.sync()
        status = os.statvfs(folder)
        if status.f_bfree == seen:
            return seen * status.f_frsize
        seen = status.f_bfree
        time.sleep(0.1)


def ours(blob: Path, target: Path, descriptor: Descriptor, shares: bool) -> None:
    """As an export does it; one whose blob is no file at hand has it read."""

    @asynccontextmanager
    async def opened():  # type: ignore[no-untyped-def]
        file = os.open(blob, os.O_RDONLY)
        try:
            body = FileBody(file, blob, descriptor.size)
            yield _Whole(file, blob, descriptor.size) if shares else body
        finally:
            os.close(file)

    asyncio.run(write_blob(target, descriptor, opened))


class _Whole(FileBody):
    """A proven file (``ports.Filed``)."""

    def __init__(self, file: int, path: Path, size: int) -> None:
        super().__init__(file, path, size)
        self.file: int | None = file


def cp(blob: Path, target: Path) -> None:
    subprocess.run(["cp", "--reflink=never", blob, target], check=True)
    with target.open("rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
