"""The two images of the demonstration: a real one, and a second one that shares its layers.

Invariants:
- the second image is the first one with one more layer on top, as a rebuilt application is;
- the same machine gives the same two digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.machine_tree import Entry, Tree, real_files
from scripts.make_image import (
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    REF_NAME,
    Blob,
    make_image,
    write_blob,
    write_layer,
)

TAGS = ("1", "2")
#: Bytes of this machine's files that the second image's own layer takes.
UPDATE_BYTES = 12 << 20


@dataclass(frozen=True)
class Image:
    """One image of the layout: its tag, its manifest, and the blobs that the manifest names."""

    tag: str
    digest: str
    manifest: Blob
    blobs: dict[str, int]

    @property
    def size(self) -> int:
        """Bytes of config and layers: what a first pull has to fetch."""
        return sum(self.blobs.values())

    def own_size(self, other: Image) -> int:
        """Bytes of the blobs that the other image does not have."""
        return sum(size for digest, size in self.blobs.items() if digest not in other.blobs)


def make_images(layout: Path, data_bytes: int) -> tuple[Image, Image]:
    """Both images, written to the layout. Raises OSError and CalledProcessError as make_image."""
    made = make_image(layout, tag=TAGS[0], data_bytes=data_bytes)
    first = Blob(made.media_type, made.digest, made.size)
    layer = write_layer(layout, _update_tree(data_bytes), "zstd")
    second = _stacked(layout, made.digest, layer)
    _write_index(layout, dict(zip(TAGS, (first, second), strict=True)))
    return (_image(layout, TAGS[0], first), _image(layout, TAGS[1], second))


def _update_tree(taken_already: int) -> Tree:
    """Files of this machine that the first image does not have as its data."""
    tree = Tree()
    tree.write("/app/settings.json", '{"greeting": "hello again"}\n')
    for path in _update_files(taken_already):
        tree.directory(str(Path(f"/app/update{path}").parent))
        tree.put(f"/app/update{path}", Entry(0o644, source=path))
    return tree


def _update_files(taken_already: int) -> Iterator[str]:
    seen = 0
    for path in real_files(("/usr/share", "/usr/lib", "/usr/bin")):
        if seen >= taken_already + UPDATE_BYTES:
            return
        if seen >= taken_already:
            yield path
        seen += Path(path).stat().st_size


def _stacked(layout: Path, digest: str, layer: Blob) -> Blob:
    """The manifest of an image that has one layer more than the image of this digest."""
    manifest = _document(layout, digest)
    config = _document(layout, manifest["config"]["digest"])
    config["rootfs"]["diff_ids"].append(layer.diff_id)
    config["history"].append({**config["history"][-1], "created_by": "demo: update"})
    manifest["config"] = write_blob(layout, CONFIG_TYPE, config).descriptor()
    manifest["layers"].append(layer.descriptor())
    return write_blob(layout, MANIFEST_TYPE, manifest)


def _document(layout: Path, digest: str) -> dict[str, Any]:
    raw = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    document: dict[str, Any] = json.loads(raw)
    return document


def _write_index(layout: Path, manifests: dict[str, Blob]) -> None:
    entries = [blob.descriptor(annotations={REF_NAME: tag}) for tag, blob in manifests.items()]
    listing = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
    (layout / "index.json").write_text(json.dumps(listing))


def _image(layout: Path, tag: str, manifest: Blob) -> Image:
    document = _document(layout, manifest.digest)
    named = [document["config"], *document["layers"]]
    return Image(tag, manifest.digest, manifest, {each["digest"]: each["size"] for each in named})
