"""From a registry to one squashfs: ours against skopeo, umoci and mksquashfs on the same image.

    python -m bench.flatten [--rounds N] [--files N] [--size MB] [--quick] [--dir FOLDER]

A cold cache, a new file each time, in turn. Theirs is ``skopeo copy`` to a layout, ``umoci unpack``
and ``mksquashfs`` of the root, with zstd at level 3, and once with gzip at level 9, which is what
apptainer makes. The processor's seconds stand beside, for a machine that others use too. Memory is
that of all processes together at any moment. ``--quick`` is a small image and one round.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.flat_image import write_image
from bench.pull import registryctl
from bench.rig import Rig, Series, goal, memory_mib, need, report, rig, rounds, spread
from registryd.images.layers.allowance import Allowance
from registryd.images.layers.headers import FILE, Entry, read_entries
from registryd.images.layers.plan import flatten
from registryd.images.layers.stream import header

MB = 1_000_000
#: Most memory (MiB) of all processes together, and most seconds for 100,000 entries.
MOST_MEMORY, MOST_PLAN = 300.0, 2.0
ENTRIES = 100_000
#: How often memory is looked at, seconds.
LOOK = 0.05


@dataclass
class Tree:
    """What commands cost: seconds of the processor, and the most memory, MiB."""

    processor: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def timed(self, *commands: list[str]) -> float:
        """Run these one after another, and keep what they cost; how long it took, seconds."""
        began, used, most = time.perf_counter(), _used(), 0.0
        for command in commands:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while True:
                most = max(most, _together(process.pid))
                try:
                    process.wait(LOOK)
                except subprocess.TimeoutExpired:
                    continue
                break
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, command)
        took = time.perf_counter() - began
        self.processor.append(_used() - used)
        self.memory.append(most)
        return took


def _used() -> float:
    """Seconds of the processor that ended children took."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _together(pid: int) -> float:
    """Memory of a process and of all below it, MiB; 0 for those that are gone."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return memory_mib(pid, "VmRSS") + sum(_together(int(each)) for each in below)
    except OSError:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--size", type=int, default=1500, help="MB of all files")
    parser.add_argument("--quick", action="store_true", help="a small image, one round")
    parser.add_argument("--dir", type=Path, help="where caches and targets go")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.files, options.size = 1, 3000, 75
    with rig(options.dir) as place:
        compare(place, options.files, options.size * MB, options.rounds)
    plan()
    print(f"\n(load of this machine in the end: {os.getloadavg()[0]:.1f})")


def compare(place: Rig, files: int, size: int, count: int) -> None:
    """The way from a registry to a squashfs."""
    name = f"127.0.0.1:{place.registry()}/bench/flat:1"
    made = write_image(place.folder / "image", files, size)
    skopeo = [need("skopeo"), "copy", "-q", "--dest-tls-verify=false"]
    subprocess.run([*skopeo, f"oci:{place.folder}/image:bench", f"docker://{name}"], check=True)
    shutil.rmtree(place.folder / "image")
    ours, theirs = Tree(), Tree()
    target = place.folder / "flat.squashfs"
    sizes: dict[str, int] = {}

    def measured(what: str, act: Callable[[], float], *left: str) -> float:
        took = act()
        sizes[what] = target.stat().st_size
        target.unlink()
        for each in left:
            shutil.rmtree(place.folder / each)
        return took

    def pull() -> float:
        command = [*registryctl(), "pull", "--root", f"{place.folder}/cache", "--progress", "none"]
        command += ["-o", f"squashfs:{target}", name]
        return measured("registryctl", lambda: ours.timed(command), "cache")

    def others(tree: Tree, *flags: str) -> float:
        layout, bundle = f"{place.folder}/layout", f"{place.folder}/bundle"
        commands = (
            [need("skopeo"), "copy", "-q", "--src-tls-verify=false", f"docker://{name}",
             f"oci:{layout}:x"],
            [need("umoci"), "unpack", *_rootless(), "--image", f"{layout}:x", bundle],
            [need("mksquashfs"), f"{bundle}/rootfs", str(target), "-noappend", "-quiet", *flags],
        )  # fmt: skip
        return measured(" ".join(flags), lambda: tree.timed(*commands), "layout", "bundle")

    zstd = ("-comp", "zstd", "-Xcompression-level", "3")
    series = [
        Series("registryctl pull -o squashfs:", pull),
        Series("skopeo, umoci, mksquashfs (zstd 3)", lambda: others(theirs, *zstd)),
    ]
    rounds(series, count)
    slow, gzip = Series("skopeo, umoci, mksquashfs (gzip 9)", lambda: 0.0), Tree()
    slow.seconds = [others(gzip, "-comp", "gzip")] * count
    title = f"{made.files} files, {made.size / MB:,.0f} MB, from a registry to a squashfs"
    report(title, [*series, slow], [(0, 1, 0.6)])
    peer = statistics.median(slow.seconds)
    goal("ours / gzip 9, once", [each / peer for each in series[0].seconds], "x", most=0.1)
    used = [a / b for a, b in zip(ours.processor[1:], theirs.processor[1:], strict=True)]
    goal("the same of the processor's seconds, zstd 3", used, "x", most=0.6)
    slowly = [each / gzip.processor[0] for each in ours.processor[1:]]
    goal("and gzip 9", slowly, "x", most=0.1)
    goal("ours: memory of all processes", ours.memory, "MiB", most=MOST_MEMORY)
    print(f"| processor, ours | {spread(ours.processor[1:])} |")
    print(f"| processor, zstd 3 | {spread(theirs.processor[1:])} |")
    print(f"| processor, gzip 9 | {spread(gzip.processor)} |")
    print(f"| theirs: memory of all processes | {spread(theirs.memory, 'MiB')} |")
    for what, found in sizes.items():
        print(f"| size, {what} | {found / MB:,.1f} MB |")


def _rootless() -> list[str]:
    return [] if os.geteuid() == 0 else ["--rootless"]


def plan() -> None:
    """Reading and planning the headers of many entries, in this process."""
    print(f"\n### Plan of {ENTRIES} entries\n\n| what | median (min to max) |\n|---|---|")
    for what, xattrs in (("plain", ()), ("with extended headers", ((b"user.k", b"v"),))):
        out = io.BytesIO()
        for number in range(ENTRIES):
            path = b"usr/lib/python3/dist-packages/%d/module_%d.py" % (number // 24, number)
            entry = Entry((), FILE, mode=0o644, mtime=number * 10**9, xattrs=xattrs)
            out.write(header(path, entry))
        took = []
        for _ in range(5):
            out.seek(0)
            began = time.process_time()
            flatten([read_entries(out, "layer", 0, Allowance())], "image")
            took.append(time.process_time() - began)
        goal(f"{what}, processor", took, "s", most=MOST_PLAN)


if __name__ == "__main__":
    main()
