"""A program of an image, under bubblewrap, gets this machine's MPICH in the place of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from registryd.launch.cdi import Devices
from registryd.launch.edits import Edits
from registryd.launch.image_tree import ImageTree
from registryd.launch.libraries import placed
from registryd.launch.module_edits import added, this_machine
from registryd.launch.module_file import read_module
from tests.launch.mpi_image import MPICH, THERE, make_mpi_image, own_mpi


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with an MPI that is not this machine's."""
    if shutil.which("bwrap") is None or not THERE:
        pytest.skip("needs bwrap and libmpich-dev")
    return make_mpi_image(tmp_path / "image")


def said(image: Path, found: Edits) -> str:
    """What the program says with these edits."""
    binds = [word for each in found.binds for word in ("--ro-bind", each.source, each.target)]
    env = found.environment({})
    variables = [word for pair in env.items() for word in ("--setenv", *pair)]
    command = [
        "bwrap",
        "--clearenv",
        "--ro-bind",
        image,
        "/",
        "--tmpfs",
        "/run",
        *binds,
        *variables,
    ]
    ran = subprocess.run([*command, "/bin/version"], check=True, capture_output=True, text=True)
    return ran.stdout


def with_module(image: Path, words: str) -> Edits:
    """What a module adds to the image."""
    here = this_machine({}, (), Devices())
    found = added([read_module(words, stem="m")], [], here)
    fitted = placed(found.libraries, here=here.loader, image=ImageTree(image))
    assert () == fitted.notes
    return found.edits + fitted.edits


def test_the_machines_mpich_is_loaded(image: Path) -> None:
    """Neither rebuilt nor told of it, the program loads the machine's library, and what that
    needs besides; without the module it has its own."""
    words = f"libraries: {{abi: full, replace: [{{path: {MPICH}, as: libmpi.so.12}}]}}"

    assert "of the image" in said(image, Edits())
    assert "MPICH Version:" in said(image, with_module(image, words))


def test_an_image_without_mpi(image: Path) -> None:
    """Where the image has no such library, the machine's is found in our folder."""
    own_mpi(image).unlink()
    words = f"libraries: {{replace: [{{path: {MPICH}, as: libmpi.so.12}}]}}"

    assert "MPICH Version:" in said(image, with_module(image, words))
