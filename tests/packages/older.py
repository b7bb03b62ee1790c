"""Earlier versions of this project, from its history, and an image for their caches."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from scripts.clean_root import ROOT
from scripts.machine_tree import Tree
from scripts.make_image import EPOCH, name_root, write_image, write_layer

#: ``cache.db`` of schema 4: the last one without pins.
BEFORE_PINS = "7ae947454e2adb7cb7e83c48362ad1267a686637"
#: ``cache.db`` of schema 5.
WITH_PINS = "1bc88ded8e3d821b1196423a798288997542b21f"


def older_code(folder: Path, commit: str) -> Path:
    """Two packages and config.example.toml of a commit. Skips where there is no history."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("an earlier version comes from the history of this project: no git here")
    packed = subprocess.run(
        [git, "-C", ROOT, "archive", commit, "cache", "registryd", "config.example.toml"],
        capture_output=True,
    )
    if packed.returncode:
        pytest.skip(f"the history here does not reach back to {commit[:7]}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def small_image(layout: Path) -> None:
    """Write a layout with an image of two layers under the tag ``one``."""
    trees = []
    for name in ("motd", "notes"):
        tree = Tree()
        tree.write(f"/etc/{name}", name.encode() * 1000)
        trees.append(tree)
    layers = [write_layer(layout, tree, "gzip") for tree in trees]
    name_root(layout, write_image(layout, layers, {"Cmd": ["true"]}, EPOCH), "one")
