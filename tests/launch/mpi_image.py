"""An image with a program that says whose MPI it got: the image's own, or this machine's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

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


def make_mpi_image(root: Path) -> Path:
    """A C library, ``/bin/version``, a shell, and an MPI that is not this machine's."""
    for path in ("/lib64/ld-linux-x86-64.so.2", *GLIBC):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])
    fake = own_mpi(root)
    compiled(fake, FAKE, "-shared", "-fPIC", "-Wl,-soname,libmpi.so.12")
    (fake.parent / "libmpi.so.12").symlink_to(fake.name)
    for folder in ("etc", "run"):
        (root / folder).mkdir()
    (root / "etc/ld.so.conf").write_text("/opt/mpi/lib\n")
    compiled(root / "bin/version", PROGRAM, "-x", "none", str(fake))
    subprocess.run(["/sbin/ldconfig", "-r", root], check=True)
    return root


def own_mpi(root: Path) -> Path:
    """The file of the image's MPI."""
    return root / "opt/mpi/lib/libmpi.so.12.1.0"
