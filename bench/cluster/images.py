"""An image of layers that are true archives, with content that cannot be compressed."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bench.rig import CONFIG, LAYER, MANIFEST, MIB


def write_image(folder: Path, size: int, layers: int, tag: str, seed: int) -> str:
    """An OCI layout with one image whose equal layers have ``size`` bytes in all, or a bit more.

    The answer is the digest of its first layer.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    source = random.Random(seed)
    listed = [_layer(blobs, f"{seed}-{n}", size // layers, source) for n in range(layers)]
    rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in listed]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _document(blobs, config, CONFIG),
        "layers": listed,
    }
    root = _document(blobs, manifest, MANIFEST)
    root["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    return str(listed[0]["digest"])


def _document(blobs: Path, value: object, media_type: str) -> dict[str, object]:
    content = json.dumps(value).encode()
    encoded = hashlib.sha256(content).hexdigest()
    (blobs / encoded).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(content)}


def _layer(blobs: Path, name: str, size: int, source: random.Random) -> dict[str, object]:
    draft = blobs / "draft"
    with draft.open("wb") as out:
        written = _write(out, _archive(name, size, source))
    draft.rename(blobs / written)
    size = (blobs / written).stat().st_size
    return {"mediaType": LAYER, "digest": f"sha256:{written}", "size": size}


def _write(out: BinaryIO, pieces: Iterator[bytes]) -> str:
    hashed = hashlib.sha256()
    for piece in pieces:
        hashed.update(piece)
        out.write(piece)
    return hashed.hexdigest()


def _archive(name: str, size: int, source: random.Random) -> Iterator[bytes]:
    """A tar of one file that fills it: a header, the content, and two blocks of zeros."""
    content = size - size % tarfile.BLOCKSIZE
    member = tarfile.TarInfo(f"content-{name}")
    member.size = content
    yield member.tobuf(tarfile.USTAR_FORMAT)
    for at in range(0, content, MIB):
        yield source.randbytes(min(MIB, content - at))
    yield bytes(2 * tarfile.BLOCKSIZE)
