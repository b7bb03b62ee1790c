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
#: ``/bin/sum``: what all ranks together make of their numbers.
SUM = """
#include <mpi.h>
#include <stdio.h>
int main(int count, char **words) {
  int ranks, rank, one, all;
  MPI_Init(&count, &words);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  one = rank + 1;
  MPI_Allreduce(&one, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  printf("%d of %d: %d\\n", rank, ranks, all);
  return MPI_Finalize();
}
"""
#: An MPI in which everybody is alone.
FAKE = """
#include <string.h>
int MPI_Get_library_version(char *text, int *length) { strcpy(text, "of the image"); return 0; }
int MPI_Init(int *count, char ***words) { return 0; }
int MPI_Comm_size(int comm, int *number) { *number = 1; return 0; }
int MPI_Comm_rank(int comm, int *number) { *number = 0; return 0; }
int MPI_Allreduce(const int *in, int *out, int count, int type, int op, int comm) {
  *out = *in; return 0;
}
int MPI_Finalize(void) { return 0; }
"""
HEADERS = "/usr/include/x86_64-linux-gnu/mpich"
#: Whether this machine has what the image is made with.
THERE = MPICH.exists() and Path(HEADERS, "mpi.h").exists()


def compiled(path: Path, source: str, *flags: str) -> None:
    """A file made by the machine's compiler."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-x", "c", "-", "-o", path, *flags], input=source.encode(), check=True)


def make_mpi_image(root: Path) -> Path:
    """A C library, ``/bin/version``, ``/bin/sum``, and an MPI that is not this machine's."""
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
    compiled(root / "bin/sum", SUM, f"-I{HEADERS}", "-x", "none", str(fake))
    subprocess.run(["/sbin/ldconfig", "-r", root], check=True)
    return root


def own_mpi(root: Path) -> Path:
    """The file of the image's MPI."""
    return root / "opt/mpi/lib/libmpi.so.12.1.0"
