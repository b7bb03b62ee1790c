"""The image of the cluster's bench."""

import hashlib
import json
import tarfile
from pathlib import Path

from bench.cluster.images import write_image


def test_layers_are_archives_under_their_digests(tmp_path: Path) -> None:
    """So many equal layers, each a tar of one file, each named by its hash; the size is met."""
    first = write_image(tmp_path, 1 << 20, 4, "t", seed=1)
    index = json.loads((tmp_path / "index.json").read_text())
    blobs = tmp_path / "blobs" / "sha256"
    root = index["manifests"][0]["digest"].removeprefix("sha256:")
    layers = json.loads((blobs / root).read_bytes())["layers"]

    assert 4 == len({layer["digest"] for layer in layers})
    assert first == layers[0]["digest"]
    for layer in layers:
        blob = blobs / layer["digest"].removeprefix("sha256:")
        content = blob.read_bytes()
        assert blob.name == hashlib.sha256(content).hexdigest()
        assert (1 << 18) <= len(content) == layer["size"] <= (1 << 18) + 4096
        with tarfile.open(blob) as archive:
            assert [1 << 18] == [member.size for member in archive.getmembers()]


def test_the_same_seed_gives_the_same_image(tmp_path: Path) -> None:
    """And another seed another one."""
    names = [write_image(tmp_path / str(n), 8192, 2, "t", seed) for n, seed in enumerate((1, 1, 2))]

    assert names[0] == names[1] != names[2]
