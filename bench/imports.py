"""Many ranks of one node that import many shared objects, as Python codes do: a small Pynamic.

    python -m bench.imports [--modules N] [--ranks N] [--rounds N] [--out FILE.png] [--dir FOLDER]

The same tree as loose files on the local disk, in a squashfs that the kernel has mounted, and in
one that squashfuse has. Cold is a fresh mount, and no data of the files in the page cache; the
names of loose files stay known to the kernel, which is more than a parallel file system grants.
Each rank is a process; all begin at once, and the time is that of the last. For root.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.rig import Series, need, ratio, report, rig, rounds, spread, timed
from registryd.mounts import fuse, kernel
from registryd.mounts.found import find_squashfs
from registryd.mounts.watcher import umount

#: Functions of a module: each has a line of its own, so that a module is some tens of kB.
FUNCTIONS = 60
_MODULE = """
#include <Python.h>
static const char text[] = {{ {noise} }};
{functions}
static PyModuleDef definition = {{ PyModuleDef_HEAD_INIT, "{name}", text, -1, NULL }};
PyMODINIT_FUNC PyInit_{name}(void) {{ return PyModule_Create(&definition); }}
"""
#: A rank: it waits until all are there, imports everything, and calls nothing.
_RANK = """
import sys
sys.path.insert(0, sys.argv[1])
sys.stdin.read(1)
for number in range(int(sys.argv[2])):
    __import__(f"m{number}")
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules", type=int, default=300)
    parser.add_argument("--ranks", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="draw a picture there")
    parser.add_argument("--dir", type=Path, help="where the files go")
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("bench: only root has the kernel mount a squashfs")
    with rig(options.dir) as place:
        compare(place.folder, options.modules, options.ranks, options.rounds, options.out)


def compare(folder: Path, modules: int, ranks: int, count: int, out: Path | None) -> None:
    """All ways, cold and warm, in turn."""
    tree, packed = folder / "tree", folder / "tree.sqsh"
    build(tree, modules)
    need("mksquashfs")
    words = ["mksquashfs", tree, packed, "-comp", "zstd", "-Xcompression-level", "3", "-quiet"]
    subprocess.run([*words, "-no-progress"], check=True, stdout=subprocess.DEVNULL)
    target = folder / "mounted"
    target.mkdir()

    def storm(where: Path) -> float:
        return timed(lambda: imported(where, modules, ranks))

    def loose(*, cold: bool) -> float:
        for file in tree.iterdir():
            forget(file) if cold else file.read_bytes()
        return storm(tree)

    def packed_by(mount: Callable[[Path, Path], None], *, cold: bool) -> float:
        forget(packed)
        with mounted(mount, packed, target):
            if not cold:
                storm(target)
            return storm(target)

    series = [
        Series(f"{name}, {heat}", lambda way=way, heat=heat: way(cold=heat == "cold"))  # type: ignore[misc]
        for heat in ("cold", "warm")
        for name, way in (
            ("loose files", loose),
            ("squashfs by the kernel", lambda cold: packed_by(by_kernel, cold=cold)),
            ("squashfs by squashfuse_ll", lambda cold: packed_by(by_squashfuse, cold=cold)),
        )
    ]
    rounds(series, count)
    size = sum(file.stat().st_size for file in tree.iterdir()) >> 20
    about = f"{ranks} ranks import {modules} shared objects ({size} MiB)"
    report(f"{about}; the squashfs has {packed.stat().st_size >> 20} MiB", series, [])
    for at in (0, 3):
        for entry in series[at + 1 : at + 3]:
            print(f"| {entry.name} / {series[at].name} | {spread(ratio(entry, series[at]), 'x')} |")
    if out is not None:
        draw(series, about, out)


def build(tree: Path, modules: int) -> None:
    """The shared objects, all different, as many at a time as there are processors."""
    tree.mkdir()
    include = sysconfig.get_path("include")
    need("gcc")

    def one(number: int) -> None:
        name = f"m{number}"
        noise = ",".join(str(byte % 120) for byte in os.urandom(8192))
        functions = "\n".join(
            f"int {name}_f{at}(int x) {{ return x * {at} + {number}; }}" for at in range(FUNCTIONS)
        )
        source = _MODULE.format(name=name, noise=f"{noise},0", functions=functions)
        words = ["gcc", "-shared", "-fPIC", "-O1", "-g", f"-I{include}", "-x", "c", "-"]
        target = tree / f"{name}.so"
        subprocess.run([*words, "-o", target], input=source.encode(), check=True)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(one, range(modules)))


def imported(where: Path, modules: int, ranks: int) -> None:
    """Have all ranks import everything at the same time."""
    words = [sys.executable, "-I", "-S", "-c", _RANK, where, str(modules)]
    reading, writing = os.pipe()
    started = [subprocess.Popen(words, stdin=reading) for _ in range(ranks)]
    os.close(reading)
    os.close(writing)  # the end of the pipe is what they wait for
    ends = [process.wait() for process in started]
    if any(ends):
        raise RuntimeError(f"a rank could not import what is in {where}")


def forget(file: Path) -> None:
    """Have the kernel drop a file's data from memory."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


@contextmanager
def mounted(mount: Callable[[Path, Path], None], packed: Path, target: Path) -> Iterator[None]:
    """The squashfs on a folder for the block."""
    mount(packed, target)
    try:
        yield
    finally:
        umount(str(target))


def by_kernel(packed: Path, target: Path) -> None:
    """As registryctl mount has it for root."""
    file = os.open(packed, os.O_RDONLY)
    try:
        kernel.mount_squashfs(file, find_squashfs(file, str(packed)).offset, target)
    finally:
        os.close(file)


def by_squashfuse(packed: Path, target: Path) -> None:
    """As registryctl mount has it for everybody else."""
    file = os.open(packed, os.O_RDONLY)
    try:
        fuse.mount_squashfs(file, 0, target, label="bench", environ=os.environ)
    finally:
        os.close(file)


def draw(series: Sequence[Series], about: str, out: Path) -> None:
    """A bar for each way, cold and warm, with the least and the most of all rounds."""
    import statistics

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    ways = len(series) // 2
    for heat, colour, shift in (("cold", "#2c7fb8", -0.2), ("warm", "#fdae6b", 0.2)):
        chosen = [entry for entry in series if entry.name.endswith(heat)]
        middles = [statistics.median(entry.seconds) for entry in chosen]
        low = [middle - min(e.seconds) for e, middle in zip(chosen, middles, strict=True)]
        high = [max(e.seconds) - middle for e, middle in zip(chosen, middles, strict=True)]
        places = [place + shift for place in range(ways)]
        axes.bar(places, middles, 0.4, yerr=[low, high], capsize=4, color=colour, label=heat)
    names = [entry.name.rpartition(",")[0] for entry in series[:ways]]
    axes.set_xticks(range(ways), names)
    axes.set(ylabel="seconds until the last rank is done", ylim=(0, None), title=about)
    axes.legend()
    figure.savefig(out, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
