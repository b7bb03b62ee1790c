"""What a node gains from the others: one image to many nodes, on real links (see ``__init__``)."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import bench.cluster
from bench.cluster.figures import Run, heading, row
from bench.cluster.place import Place, Settings, place
from bench.cluster.runs import REPEATED, RUNS, judge

MEGABIT = 1e6


def main() -> None:
    options = _options()
    if os.getuid():
        sys.exit("bench: network namespaces want root")
    # However it is told to end, it removes what it made: in the background of a shell too, where
    # interrupts are ignored until somebody says otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    settings = Settings(
        nodes=options.nodes,
        size=options.size << 20,
        small=options.small << 20,
        held=options.held << 20,
        upstream=options.upstream * MEGABIT,
        nats=options.nats,
        patience=options.patience,
        congestion=options.congestion,
        rest=tuple(options.set),
    )
    with _folder(options.dir) as folder:
        logs = options.logs or folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with place(folder, logs, settings) as where:
            done = _run(where, options.what, options.rounds)
    if options.json:
        records = [{"run": name} | run.record() for name, runs in done for run in runs]
        options.json.write_text(json.dumps(records, indent=1) + "\n")
    sys.exit(0 if _judge(done) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster",
        description=bench.cluster.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--what", nargs="*", choices=RUNS, default=list(RUNS), metavar="RUN", help=", ".join(RUNS))
    add("--rounds", type=int, default=1, help=f"of {' and '.join(REPEATED)}")
    add("--nodes", type=int, default=16)
    add("--size", type=int, default=1024, help="MiB of the image")
    add("--held", type=int, default=64, help="MiB of the image of second and demand")
    add("--small", type=int, default=16, help="MiB of the image of alone and proxy")
    add("--upstream", type=float, default=50, help="Mbit/s of the upstream's link")
    add("--nats", action="store_true", help="members by NATS, not by a list")
    add("--congestion", default="", help="of TCP, in all hosts (default: the machine's)")
    add("--set", action="append", default=[], metavar="LINE", help="for every configuration")
    add("--patience", type=float, default=900, help="seconds after which a run is given up")
    add("--json", type=Path, metavar="FILE", help="where all figures go, metrics included")
    add("--logs", type=Path, metavar="FOLDER", help="where to keep what programs have said")
    add("--dir", type=Path, help="where caches go")
    return parser.parse_args()


@contextmanager
def _folder(where: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="registryd-cluster-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(where: Place, names: Sequence[str], rounds: int) -> list[tuple[str, list[Run]]]:
    """Do the runs; a row of the table appears when its run is done."""
    print(*heading(), sep="\n", flush=True)
    done = []
    for name in names:
        runs: list[Run] = []
        for _ in range(rounds if name in REPEATED else 1):
            for run in RUNS[name](where):
                runs.append(run)
                print(row([run]), flush=True)
        if len(runs) > 1 and name in REPEATED:
            print(row(runs), flush=True)
        done.append((name, runs))
    speeds = (
        f"{bits / MEGABIT:g} Mbit/s: {speed / 1e6:.2f} MB/s" for bits, speed in where.speeds.items()
    )
    print(f"\nWhat one download gets of a link of {', '.join(speeds)}.")
    return done


def _judge(done: Sequence[tuple[str, list[Run]]]) -> bool:
    print("\n| goal | figure |\n|---|---|")
    verdicts = [judge(name, runs) for name, runs in done]
    return all(verdicts)


if __name__ == "__main__":
    main()
