"""``python -m tests.kills``: kill a daemon several hundred times, and print one table.

Ends with 1 where anything was found that must not be.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.kills.damage import JUMPS, Damaged, jump
from tests.kills.mix import Mix
from tests.kills.node import TOP
from tests.kills.rig import Rig, rig
from tests.kills.rounds import Round, Tally
from tests.kills.scenarios import scenarios
from tests.kills.steps import Mode

#: Of all kills, how many come at random, in a mix of everything.
RANDOM = 0.35
#: The calls that can be torn.
TORN = ("write", "pwrite")


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 where something was violated."""
    parser = argparse.ArgumentParser(prog="tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=400, help="at least so many")
    parser.add_argument("--fails", type=int, default=150, help="writes that fail")
    parser.add_argument("--damages", type=int, default=60, help="databases that are damaged")
    parser.add_argument("--seed", type=int, default=None, help="which steps and times")
    parser.add_argument("--only", action="append", default=[], help="scenarios by name, or random")
    parser.add_argument("--top", type=Path, default=TOP, help="the tree whose program is killed")
    options = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    tally, began = Tally(), time.monotonic()
    with (
        suppress(KeyboardInterrupt),  # what was seen so far is told
        tempfile.TemporaryDirectory(prefix="kills") as folder,
        rig(Path(folder), options.top) as made,
    ):
        everything(made, tally, options, seed)
    sys.stdout.write(table(tally, seed, time.monotonic() - began) + "\n")
    return 1 if tally.violations else 0


def everything(made: Rig, tally: Tally, options: argparse.Namespace, seed: int) -> None:
    """Kills, writes that fail, databases that are damaged, clocks that jump."""
    if options.kills:
        run(made, tally, options.kills, seed, options.only)
    if options.fails:
        fail(made, tally, options.fails, seed, options.only)
    damaged = Damaged(made, tally, random.Random(seed))
    for number in range(options.damages):
        damaged.round(number)
    for seconds in JUMPS if options.damages else ():
        jump(made, tally, seconds)


def run(made: Rig, tally: Tally, kills: int, seed: int, only: Sequence[str] = ()) -> None:
    """At least so many kills: at steps of every scenario, then at random."""
    chosen = [each for each in scenarios(made) if not only or each.name in only]
    at_random = kills if only == ["random"] else int(kills * RANDOM) if not only else 0
    traces = {each.name: Round(made, tally, each).count() for each in chosen}
    share = max(1, -(-(kills - at_random) // max(1, len(chosen))))
    for scenario in chosen:
        for mode, step in steps_of(traces[scenario.name], share, seed):
            Round(made, tally, scenario).kill(mode, step)
            _tell(tally)
    mix = Mix(made, tally, seed)
    number = 0
    while sum(tally.kills.values()) < kills:
        mix.round(number)
        number += 1
        _tell(tally)
    _tell(tally, last=True)


def fail(made: Rig, tally: Tally, count: int, seed: int, only: Sequence[str] = ()) -> None:
    """So many writes that fail, of every scenario: once, or from there on, full or broken."""
    chosen = [each for each in scenarios(made) if not only or each.name in only]
    share = max(1, -(-count // max(1, len(chosen))))
    ways = itertools.cycle(itertools.product((errno.ENOSPC, errno.EIO), (False, True)))
    for scenario in chosen:
        trace = Round(made, tally, scenario).count()
        at = [step for mode, step in steps_of(trace, 10**6, seed) if mode == Mode.KILL]
        for step, (error, lasting) in zip(at[:share], ways, strict=False):
            Round(made, tally, scenario).fail(error, step, lasting=lasting)
            _tell(tally)


def steps_of(trace: Sequence[str], count: int, seed: int) -> Iterator[tuple[Mode, int]]:
    """Which steps to kill: each name once (and torn, where it is a write), then spread evenly.

    The occurrence is chosen by the seed, so that runs differ.
    """
    chance = random.Random(f"{seed} {len(trace)}")
    places: dict[str, list[int]] = {}
    for number, name in enumerate(trace, 1):
        places.setdefault(name, []).append(number)
    chosen: dict[tuple[Mode, int], None] = {}
    for name in sorted(places, key=lambda name: (len(places[name]), name)):
        chosen[Mode.KILL, chance.choice(places[name])] = None
        if name.partition(" ")[0] in TORN:
            chosen[Mode.TEAR, chance.choice(places[name])] = None
    rest = [(Mode.KILL, number) for number in range(1, len(trace) + 1)]
    chance.shuffle(rest)
    for each in rest:
        chosen.setdefault(each)
    yield from list(chosen)[:count]


def table(tally: Tally, seed: int, seconds: float) -> str:
    """What was done and found, as a table."""
    lines = ["", f"{'kind':<14} kills"]
    lines += [f"{name:<14} {count:>5}" for name, count in tally.kills.items()]
    lines += [
        f"{'all':<14} {sum(tally.kills.values()):>5}", "",
        "writes failed  " + ", ".join(f"{kind} {n}" for kind, n in tally.failures.items()),
        "databases      " + ", ".join(f"{kind} {n}" for kind, n in tally.damages.items()),
        f"clock jumps    {tally.jumps:>7}", "",
        f"steps struck   {len(tally.steps):>7} kinds: "
        + ", ".join(f"{name} {count}" for name, count in tally.steps.most_common()), "",
        f"states checked {tally.states:>7}",
        f"blobs hashed   {tally.files:>7}",
        f"names followed {tally.names:>7}",
        f"layers resumed {tally.resumed:>7}",
        f"violations     {len(tally.violations):>7}",
        f"seed {seed}, {seconds:.0f} s",
    ]  # fmt: skip
    return "\n".join([*lines, *tally.violations])


def _tell(tally: Tally, *, last: bool = False) -> None:
    if sys.stderr.isatty() or last:
        done, bad = sum(tally.kills.values()), len(tally.violations)
        sys.stderr.write(f"\r{done} kills, {bad} violations" + "\n" * last)


if __name__ == "__main__":
    sys.exit(main())
