"""Warm starts: ``registryctl run`` of a command that does nothing, against bwrap on the squashfs.

    python -m bench.run [--rounds N] [--dir FOLDER]

The image is held and converted, and a daemon answers. ``bwrap`` has the squashfs mounted already
and does nothing but bind it; what Python takes to start is measured beside. Wall times of a busy
machine say little: CPU times of the same runs stand in a table of their own.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from bench.rig import CONFIG, LAYER, MANIFEST, Rig, Series, goal, need, report, rig, rounds

NAME = "localhost/bench/run:1"
#: The goal: so many times bwrap's own time, and Python's start on top.
MOST = 1.5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dir", type=Path, help="where the cache goes")
    options = parser.parse_args()
    with rig(options.dir) as place, place.daemon({}) as daemon, ExitStack() as stack:
        environ = {**os.environ, "REGISTRYD_SOCKET": str(daemon.socket)}
        job = {**environ, "SLURM_JOB_ID": str(os.getpid())}
        layout = write_image(place.folder / "layout")
        ctl = [sys.executable, "-m", "registryd.cli.main"]
        quiet(environ, *ctl, "import", "-q", f"oci:{layout}:bench", NAME)
        quiet(environ, *ctl, "exec", "-q", NAME, "true")
        mounted = mount(place, ctl, environ, stack)
        bwrap = [need("bwrap"), "--ro-bind", str(mounted), "/", "--dev-bind", "/dev", "/dev"]
        bwrap += ["--bind", "/proc", "/proc", "--bind", "/sys", "/sys", "true"]
        begin_rank(ctl, job, stack)
        compare(
            {
                "registryctl exec": ([*ctl, "exec", NAME, "true"], environ),
                "registryctl exec, beside another rank": ([*ctl, "exec", NAME, "true"], job),
                "bwrap": (bwrap, environ),
                "python -c pass": ([sys.executable, "-c", "pass"], environ),
                "registryctl version": ([*ctl, "version"], environ),
            },
            options.rounds,
        )
        print(f"\n(load of this machine in the end: {os.getloadavg()[0]:.1f})")


def compare(acts: Mapping[str, tuple[list[str], dict[str, str]]], count: int) -> None:
    """Run all in turn, and print wall and CPU times with the goals."""
    spent: dict[str, list[float]] = {name: [] for name in acts}

    def series_of(name: str) -> Series:
        def act() -> float:
            wall, cpu = measured(*acts[name])
            spent[name].append(cpu)
            return wall

        return Series(name, act)

    wall = [series_of(name) for name in acts]
    rounds(wall, count)
    cpu = [Series(name, lambda: 0.0, spent[name][1:]) for name in acts]
    for title, series in (("wall", wall), ("CPU", cpu)):
        report(f"a warm start, {title} time", series, [])
        tell_goals(series)


def tell_goals(series: Sequence[Series]) -> None:
    """Ours over what is allowed: 1.5 times bwrap and a Python that starts."""
    alone, beside, bwrap, python, version = (entry.seconds for entry in series)
    for words, ours in (("alone", alone), ("beside another rank", beside)):
        for start, spent in (("python -c pass", python), ("registryctl version", version)):
            ratios = [a / (MOST * b + c) for a, b, c in zip(ours, bwrap, spent, strict=True)]
            goal(f"exec {words} / ({MOST} bwrap + {start})", ratios, "x", most=1.0)


def measured(words: Sequence[str], environ: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU time of a command that must succeed, in seconds."""
    began = time.perf_counter()
    process = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench: {' '.join(words)} ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def quiet(environ: Mapping[str, str], *words: str) -> None:
    """A command that must succeed."""
    subprocess.run(words, env=environ, check=True, stdout=subprocess.DEVNULL)


def begin_rank(ctl: list[str], job: Mapping[str, str], stack: ExitStack) -> None:
    """A command of the same job that runs all the while."""
    words = [*ctl, "exec", NAME, "sh", "-c", "echo up; read x"]
    rank = subprocess.Popen(words, env=job, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stack.callback(rank.communicate)
    if rank.stdout is None or rank.stdout.readline() != b"up\n":
        sys.exit("bench: the first rank did not start")


def mount(place: Rig, ctl: list[str], environ: Mapping[str, str], stack: ExitStack) -> Path:
    """The image's squashfs, mounted by squashfuse for bwrap."""
    file, target = place.folder / "image.sqfs", place.folder / "mounted"
    quiet(environ, *ctl, "export", "-q", NAME, "-o", f"squashfs:{file}")
    target.mkdir()
    subprocess.run([need("squashfuse_ll"), file, target], check=True)
    stack.callback(lambda: quiet(environ, need("fusermount3"), "-u", str(target)))
    return target


def write_image(folder: Path) -> Path:
    """An OCI layout whose one image holds busybox."""
    busybox = Path(need("busybox")).read_bytes()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = len(busybox), 0o755
        archive.addfile(program, io.BytesIO(busybox))
        for name in ("sh", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, media_type: str) -> dict[str, object]:
        encoded = sha256(content).hexdigest()
        (blobs / encoded).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(content)}

    layer = put(raw.getvalue(), LAYER)
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(json.dumps(config).encode(), CONFIG),
        "layers": [layer],
    }
    root = put(json.dumps(manifest).encode(), MANIFEST)
    root["annotations"] = {"org.opencontainers.image.ref.name": "bench"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    return folder


if __name__ == "__main__":
    main()
