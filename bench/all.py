"""All benches in a row, and one page of what they found: docs/figures.md, a plot, README's table.

    python -m bench.all [--quick] [--only NAME,...] [--render]

Each bench is a process of its own; what it prints is kept in build/bench, and ``--render`` makes
the page anew of that. ``--quick`` is for trying this out: small sizes, few rounds, nothing written
outside of build. A goal that was not reached is listed with its reason (bench/reasons.py).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.figures import Run, page, plot, read, table

ROOT: Final = Path(__file__).resolve().parent.parent
KEPT: Final = ROOT / "build" / "bench"
PAGE, PICTURE = ROOT / "docs" / "figures.md", ROOT / "docs" / "figures.png"
README: Final = ROOT / "README.md"
#: Between these lines README has the table.
BEGIN, END = "<!-- figures: written by python -m bench.all -->\n", "<!-- end of figures -->\n"
#: Every bench: how it is run, and how for a try.
BENCHES: Final[dict[str, tuple[list[str], list[str]]]] = {
    "pull": ([], ["--rounds", "1", "--size", "64"]),
    "serve": ([], ["--rounds", "1", "--size", "64"]),
    "coalesce": ([], ["--rounds", "1", "--size", "64", "--clients", "8"]),
    "proxy": ([], ["--rounds", "1", "--size", "64", "--clients", "8"]),
    "warm": ([], ["--rounds", "1", "--pulls", "40"]),
    "hits": ([], ["--rounds", "1", "--requests", "200", "--images", "50"]),
    "manifests": ([], ["--rounds", "1", "--seconds", "1"]),
    "scale": ([], ["--rounds", "1", "--images", "200"]),
    "flatten": ([], ["--quick"]),
    "run": ([], ["--rounds", "3"]),
    "imports": (["--out", "docs/imports.png"], ["--rounds", "2", "--ranks", "4"]),
    "sharing": ([], ["--rounds", "1", "--size", "50"]),
    "scrub": ([], ["--quick"]),
    "soak": ([], ["--minutes", "0.2", "--lives", "1"]),
    # Root's, in network namespaces: left out for others.
    "cluster": (["--nodes", "8", "--size", "256"], ["--nodes", "3", "--size", "8"]),
}
#: The longest that one may take, seconds.
LONGEST: Final = 3600


def main() -> None:
    """Run them, and write what they found; ends with 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(BENCHES), help="which of them")
    parser.add_argument("--render", action="store_true", help="run none")
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    chosen = [] if options.render else options.only.split(",")
    chosen = [name for name in chosen if name != "cluster" or not os.getuid()]
    failed = [name for name in chosen if not run(name, BENCHES[name][options.quick])]
    runs = [read(name, KEPT / f"{name}.md") for name in BENCHES if (KEPT / f"{name}.md").is_file()]
    write(runs, outside=not options.quick)
    if failed:
        sys.exit(f"bench: {', '.join(failed)} failed")


def run(name: str, words: Sequence[str]) -> bool:
    """Run one, showing what it says; whether it measured anything. Only then it is kept."""
    print(f"== {name} {' '.join(words)}", flush=True)
    began, said = time.monotonic(), []
    command = [sys.executable, "-m", f"bench.{name}", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line)
        code = process.wait(LONGEST)
    measured = code == 0 or any(" (goal at " in line for line in said)  # a goal was not met
    if measured:
        when = time.strftime("%Y-%m-%d", time.gmtime())
        took = time.monotonic() - began
        head = f"{when}, {os.cpu_count()} cores, {took:.0f} s: `{' '.join(command[1:])}`\n"
        (KEPT / f"{name}.md").write_text(head.replace("`-m", "`python -m") + "".join(said))
    return measured


def write(runs: Sequence[Run], *, outside: bool) -> None:
    """Write page, plot and README's table; into build alone where they are not to be shown."""
    folder = PAGE.parent if outside else KEPT
    (folder / PAGE.name).write_text(page(runs))
    plot(runs, folder / PICTURE.name)
    if outside:
        before, _, rest = README.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        README.write_text(before + BEGIN + table(runs) + END + after)


if __name__ == "__main__":
    main()
