"""What befalls a cache beside kills: its database is cut, overwritten or gone, the clock jumps."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from tests.kills import deeds
from tests.kills.checks import State, examine
from tests.kills.deeds import Ledger
from tests.kills.node import Died, Refused
from tests.kills.rig import Rig
from tests.kills.rounds import Round, Scenario, Tally
from tests.real.stories import UP

FILES = ("cache.db", "cache.db-wal", "cache.db-shm")
#: How far the clock jumps (seconds): an hour and ten years, both ways.
JUMPS = (3600.0, -3600.0, 3.2e8, -3.2e8)


class AtLeast(Ledger):
    """All names are there; beside them may be what random bytes have made of one."""

    @override
    def faults(self, found: Mapping[str, str], where: str) -> Iterator[str]:
        known = {name: d for name, d in found.items() if name in self.names or name in self.open}
        yield from super().faults(known, where)


@dataclass
class Damaged:
    """A round whose database something happened to: content and names must be as before."""

    rig: Rig
    tally: Tally
    chance: random.Random

    def round(self, number: int) -> None:
        """Damage a database that was in use, or was closed, and start."""
        base = self.chance.choice(["held", "full", "closed"])
        root = self.rig.copy(base)
        before = examine(root)
        kind, what = self._spoil(root)
        scenario = Scenario("damage", base, [deeds.pull("a")], aside=True, lost=True)
        look = Round(self.rig, self.tally, scenario, f"damage {number} of {base}: {what}")
        ledger = (AtLeast if kind == "overwritten" else Ledger)(dict(before.names))
        self.tally.damages[kind] += 1
        look.revive(root, ledger, State())
        after = examine(root)
        if gone := before.blobs.keys() - after.blobs.keys():
            self.tally.violations.append(f"{look.where}: content is gone: {sorted(gone)}")

    def _spoil(self, root: Path) -> tuple[str, str]:
        there = [name for name in FILES if (root / name).exists() and (root / name).stat().st_size]
        name, chance = self.chance.choice(there), self.chance
        size = (root / name).stat().st_size
        kind = chance.choice(["cut", "overwritten", "deleted"])
        if kind == "cut":
            at = chance.randrange(size)
            os.truncate(root / name, at)
            return kind, f"{name} cut at {at} of {size}"
        if kind == "overwritten":
            at, length = chance.randrange(size), chance.choice([1, 16, 300, 5000])
            with (root / name).open("r+b") as file:
                file.seek(at)
                file.write(chance.randbytes(min(length, size - at)))
            return kind, f"{length} bytes at {at} of {name} ({size}) overwritten"
        gone = chance.sample(there, chance.randrange(1, len(there) + 1))
        for each in gone:
            (root / each).unlink()
        return kind, f"{', '.join(gone)} deleted"


def jump(rig: Rig, tally: Tally, seconds: float) -> None:
    """The clock jumps while a daemon works, is otherwise for the next, and right for the last."""
    scenario = Scenario("clock", "full", [deeds.pull("c"), deeds.collect([])])
    look = Round(rig, tally, scenario, f"clock {seconds:+.0f} s")
    root = rig.copy("full")
    ledger = Ledger(dict(examine(root).names))
    tally.jumps += 1
    for shift in (0.0, seconds, 0.0):
        rig.nursery.steps.shift(shift)
        node, ready = rig.start(root)
        look.must(ready, "it does not start")
        rig.nursery.steps.shift(shift + seconds)
        try:
            for deed in (
                deeds.pin(f"{UP}/m0:1"), deeds.tag(f"{UP}/a:1", "localhost/t:1"), deeds.pull("m1"),
                deeds.collect([]), deeds.verify(), deeds.unpin(f"{UP}/m0:1"), deeds.pull("c"),
            ):  # fmt: skip
                ledger.begin(deed)
                deed(node)
                ledger.done(deed)
        except (Died, Refused) as error:
            tally.violations.append(f"{look.where}: {deed.name}: {error!r}")
        tally.violations += [f"{look.where}: {f}" for f in ledger.faults(node.images(), "names")]
        node.kill()
        tally.kills["clock"] += 1
        tally.looked(examine(root), look.where)
        rig.nursery.steps.shift(0.0)
    look.recover(root, ledger)
