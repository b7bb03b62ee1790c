"""An image of many files for the benches: what they hold is cut from programs and texts that are
here, for how fast a compressor is depends on it.

Invariants:
- the same arguments give the same layers, byte for byte, on the same machine;
- names, sizes and whiteouts are as in images of scientific software: folders of a few dozen files,
  most of them small, a few large, some replaced, linked or removed by later layers.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.rig import CONFIG, MANIFEST, MIB
from registryd.images.layers.headers import FILE, FOLDER, LINK, SYMLINK, Entry
from registryd.images.layers.stream import header

GZIP_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYERS: Final = 6
#: What contents are cut from: of texts, and of programs.
_POOL: Final = 96 * MIB
#: In pieces that are longer than any program looks back.
_PIECE: Final = 256 << 10
#: Of a folder's files; a few per cent are links.
_IN_FOLDER: Final = 24
_BLOCK: Final = 512
_WHEN: Final = 1_700_000_000 * 10**9


@dataclass(frozen=True)
class Made:
    """What was made: files of all layers, and bytes of them unpacked."""

    files: int
    size: int


def write_image(folder: Path, files: int, size: int, tag: str = "bench") -> Made:
    """An OCI layout whose image has about so many files and bytes, in gzip layers."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    library = sysconfig.get_path("stdlib")
    pools = _pool(library, "/usr/share/perl", "/usr/share"), _pool("/usr/bin", "/usr/lib")
    scale = _scale(files, size)

    def make(number: int) -> tuple[dict[str, object], str, int]:
        path = folder / f"layer-{number}"
        with gzip.GzipFile(path, "wb", 6, mtime=0) as packed:
            plain = _Hashed(packed)
            _layer(plain, number, files // LAYERS, scale, pools)
        raw = path.read_bytes()
        encoded = hashlib.sha256(raw).hexdigest()
        path.rename(blobs / encoded)
        described = {"mediaType": GZIP_LAYER, "digest": f"sha256:{encoded}", "size": len(raw)}
        return described, f"sha256:{plain.hash.hexdigest()}", plain.count

    with ThreadPoolExecutor(2) as threads:
        layers = list(threads.map(make, range(LAYERS)))
    _name(folder, [each[0] for each in layers], [each[1] for each in layers], tag)
    return Made(files, sum(count for _, _, count in layers))


def _name(folder: Path, layers: list[dict[str, object]], plain: list[str], tag: str) -> None:
    def put(document: object, kind: str) -> dict[str, object]:
        content = json.dumps(document).encode()
        encoded = hashlib.sha256(content).hexdigest()
        (folder / "blobs/sha256" / encoded).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{encoded}", "size": len(content)}

    rootfs = {"type": "layers", "diff_ids": plain}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(config, CONFIG),
        "layers": layers,
    }
    root = put(manifest, MANIFEST)
    root["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))


class _Hashed:
    """Counts and hashes what is written on."""

    def __init__(self, out: gzip.GzipFile) -> None:
        self._out = out
        self.hash, self.count = hashlib.sha256(), 0

    def write(self, content: bytes) -> None:
        self.hash.update(content)
        self.count += len(content)
        self._out.write(content)


def _layer(out: _Hashed, number: int, files: int, scale: float, pools: tuple[bytes, bytes]) -> None:
    """A layer's tar."""
    source = random.Random(100 + number)
    for at in range(files):
        above = f"opt/part{at // _IN_FOLDER % 97}/lib{at // _IN_FOLDER}"
        name = f"{above}/module_{number}_{at}"
        if at % _IN_FOLDER == 0:
            out.write(header(f"{above}/".encode(), Entry((), FOLDER, mtime=_WHEN)))
        if at % 50 == 7 and number:
            removed = f"{above}/.wh.module_{number - 1}_{at}"
            out.write(header(removed.encode(), Entry((), FILE, mode=0o644, mtime=_WHEN)))
        if at % 50 == 17:
            link = Entry((), SYMLINK, mode=0o777, mtime=_WHEN, link=f"module_{number}_0".encode())
            out.write(header(name.encode(), link))
            continue
        if at % 50 == 27:
            first = f"{above}/module_{number}_{at - 1}".encode()
            out.write(header(name.encode(), Entry((), LINK, mtime=_WHEN, link=first)))
            continue
        size = _size(source, scale)
        code = source.random() < 0.5
        mode = 0o755 if code else 0o644
        out.write(header(name.encode(), Entry((), FILE, mode=mode, mtime=_WHEN, size=size)))
        _content(out, source, size, pools[code])
    out.write(bytes(2 * _BLOCK))


def _size(source: random.Random, scale: float) -> int:
    """A file's size: most have a few kB, a few have tens of MB."""
    return min(int(scale * source.lognormvariate(0, 1.7)), 64 * MIB)


def _scale(files: int, size: int) -> float:
    """What makes the files as large together as is wished."""
    source = random.Random(3)
    return size / files / (sum(source.lognormvariate(0, 1.7) for _ in range(20_000)) / 20_000)


def _content(out: _Hashed, source: random.Random, size: int, pool: bytes) -> None:
    """Pieces of a pool, so that no two files are alike and none is as its neighbour."""
    padding = bytes(-size % _BLOCK)
    while size:
        step = min(size, _PIECE)
        at = source.randrange(len(pool) - step)
        out.write(pool[at : at + step])
        size -= step
    out.write(padding)


def _pool(*folders: str) -> bytes:
    """What the files of these folders hold, in the order of their names, up to a limit."""
    found = bytearray()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and not path.is_symlink() and b"\n" not in os.fsencode(path):
                with path.open("rb") as file:
                    found += file.read(MIB)
            if len(found) >= _POOL:
                return bytes(found)
    raise RuntimeError(f"{folders} hold less than {_POOL} bytes")
