"""Scrub: all of a cache read again from the disk and proven, against ``openssl dgst -sha256``.

The same files for all, none of them in memory when a round begins. Two caches: one as it is on a
node (some large layers, more of middling size, and for each image a manifest and a configuration),
and one of small files alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.pull import registryctl
from bench.rig import MIB, Series, goal, need, ratio, report, rig, rounds, run_timed, timed
from cache.hops import hop
from cache.idle_io import stand_back
from cache.rounds import Rounds
from cache.store import BlobStore

#: Least part of openssl's speed.
LEAST = 0.8
#: Command lines have an end.
AT_ONCE = 1000


def usual(images: int) -> list[int]:
    """Sizes in bytes of a node's blobs: layers by a long-tailed rule, two small files an image."""
    source = random.Random(2)
    sizes = []
    for _ in range(images):
        sizes += [source.randrange(400, 4000), source.randrange(2000, 16000)]
        sizes += [int(min(source.lognormvariate(14.5, 2.0), 400 * MIB)) + 100 for _ in range(4)]
    return sizes


def small(count: int) -> list[int]:
    """Sizes in bytes of manifests and configurations."""
    source = random.Random(3)
    return [source.randrange(400, 16000) for _ in range(count)]


def fill(root: Path, sizes: Sequence[int]) -> list[Path]:
    """A cache of blobs of these sizes; their files."""
    folder = root / "blobs" / "sha256"
    folder.mkdir(parents=True)
    source, files = random.Random(1), []
    for size in sizes:
        seen, draft = hashlib.sha256(), folder / "draft"
        with draft.open("wb") as out:
            for at in range(0, size, MIB):
                piece = source.randbytes(min(MIB, size - at))
                seen.update(piece)
                out.write(piece)
        files.append(draft.rename(folder / seen.hexdigest()))
    return files


def forget(files: Sequence[Path]) -> None:
    """Let nothing of these be in memory."""
    os.sync()
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def openssl(files: Sequence[Path]) -> float:
    """Seconds that the peer takes for all."""
    names = [str(file) for file in files]
    program = need("openssl")

    def run() -> None:
        for part in batches(names):
            command = [program, "dgst", "-sha256", *part]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return timed(run)


def batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many names at once as one command takes."""
    for at in range(0, len(names), AT_ONCE):
        yield names[at : at + AT_ONCE]


def seconds_of(verify: Sequence[str | Path]) -> float:
    """Seconds that the command says it has read; to start it is another bench's figure."""
    command = [*map(str, verify), "--format", "json"]
    return float(json.loads(subprocess.check_output(command))["seconds"])


async def background(root: Path, count: int) -> float:
    """Seconds that a daemon's rounds take for all, when nothing holds them back."""

    async def at_once(count: int) -> None:
        """No limit."""

    async with BlobStore.open(root) as store:
        made = Rounds(store.scrub, at_once)
        made.change(0.001, limited=False)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, initializer=stand_back) as thread:
            began = loop.time()
            await made.look(partial(hop, thread))
            took = loop.time() - began
        if store.scrub.counts["blobs"] != count or store.scrub.counts["bad"]:
            sys.exit(f"bench: {store.scrub.counts} of {count} blobs")
        return took


def compare(title: str, root: Path, sizes: Sequence[int], count: int) -> None:
    """One cache, all contenders."""
    files = fill(root, sizes)
    verify = [*registryctl(), "cache", "verify", "--root", root, "--progress", "none"]
    verify.append("--quiet")
    run_timed(*verify)  # its index is made
    series = [
        Series("registryctl cache verify, its reading", lambda: seconds_of(verify)),
        Series("the daemon's scrub, no limit", lambda: asyncio.run(background(root, len(files)))),
        Series("openssl dgst -sha256", lambda: openssl(files)),
    ]
    rounds(series, count, before=lambda: forget(files))
    report(f"{title}: {len(files):,} files, {sum(sizes) / 1e6:,.0f} MB", series, [])
    for ours in series[:2]:
        speeds = [1 / each for each in ratio(ours, series[2])]
        goal(f"speed of {ours.name} / openssl", speeds, "x", least=LEAST)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--files", type=int, default=10_000, help="of the small ones")
    parser.add_argument("--quick", action="store_true", help="small caches, one round")
    parser.add_argument("--dir", type=Path, help="where the caches go")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.images, options.files = 1, 5, 500
    with rig(options.dir) as place:
        compare("A node's cache", place.folder / "usual", usual(options.images), options.rounds)
        compare("Small files", place.folder / "small", small(options.files), options.rounds)
    print(f"\n(load of this machine in the end: {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()
