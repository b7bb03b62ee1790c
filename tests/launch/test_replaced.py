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

MPICH = Path("/usr/lib/x86_64-linux-gnu/libmpich.so.12")
GLIBC = [
    f"/lib/x86_64-linux-gnu/lib{name}"
    for name in ("c.so.6", "m.so.6", "dl.so.2", "rt.so.1", "pthread.so.0")
]
PROGRAM = """
#include <stdio.h>
int MPI_Get_library_version(char *text, int *length);
int main(void) { char text[8192]; int n; MPI_Get_library_version(text, &n); puts(text); return 0; }
"""
FAKE = """
#include <string.h>
int MPI_Get_library_version(char *text, int *length) { strcpy(text, "of the image"); return 0; }
"""


def compiled(path: Path, source: str, *flags: str) -> None:
    """A file made by the machine's compiler."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-x", "c", "-", "-o", path, *flags], input=source.encode(), check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image: a C library, a program, and an MPI that is not this machine's."""
    if shutil.which("bwrap") is None or not MPICH.exists():
        pytest.skip("needs bwrap and libmpich12")
    root = tmp_path / "image"
    for path in ("/lib64/ld-linux-x86-64.so.2", *GLIBC):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])
    (root / "run").mkdir()
    lib = root / "opt/mpi/lib"
    fake = lib / "libmpi.so.12.1.0"
    compiled(fake, FAKE, "-shared", "-fPIC", "-Wl,-soname,libmpi.so.12")
    (lib / "libmpi.so.12").symlink_to(fake.name)
    (root / "etc").mkdir()
    (root / "etc/ld.so.conf").write_text("/opt/mpi/lib\n")
    compiled(root / "bin/version", PROGRAM, "-x", "none", str(fake))
    subprocess.run(["/sbin/ldconfig", "-r", root], check=True)
    return root


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
    (image / "opt/mpi/lib/libmpi.so.12.1.0").unlink()
    words = f"libraries: {{replace: [{{path: {MPICH}, as: libmpi.so.12}}]}}"

    assert "MPICH Version:" in said(image, with_module(image, words))
