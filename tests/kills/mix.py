"""Rounds at random: several at once ask one daemon for anything, until it is killed at any moment.

The cache lives on from round to round, under a bound that makes images go all the time.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from typing_extensions import override

from tests.kills import deeds
from tests.kills.checks import examine
from tests.kills.deeds import Deed, Ledger, Pushed
from tests.kills.node import Died, Node, Refused
from tests.kills.rig import Rig
from tests.kills.rounds import Round, Scenario, Tally
from tests.kills.steps import Mode
from tests.real.stories import UP

#: Who asks at the same time.
CLIENTS = 3
#: Less than all images together.
BOUND = {"cache": {"max_size": "3MB"}}
#: A kill comes within so many seconds, or so many steps.
LONGEST, MOST_STEPS = 0.7, 250
#: Rounds that one cache lives.
LIFE = 20
#: Of so many rounds one kills the start that follows a kill too.
AGAIN = 4


class OwnNames(Ledger):
    """Only the node's own names are held to: others may go at any time, to make room."""

    @override
    def faults(self, found: Mapping[str, str], where: str) -> Iterator[str]:
        for names in (self.names, self.open):
            for name in [each for each in names if not each.startswith("localhost/")]:
                del names[name]  # type: ignore[attr-defined]
        own = {name: digest for name, digest in found.items() if name.startswith("localhost/")}
        yield from super().faults(own, where)


class Mix:
    """The rounds, by a seed."""

    def __init__(self, rig: Rig, tally: Tally, seed: int) -> None:
        self._rig = rig
        self._tally = tally
        self._seed = seed
        self._random = random.Random(seed)
        self._root = Path()
        self._ledger = OwnNames({})
        self._lock = threading.Lock()

    def round(self, number: int) -> None:
        """Work, one kill (or two), and a look at what is left."""
        chance = self._random
        if number % LIFE == 0:
            self._root = self._rig.copy("held")
            names = examine(self._root).names
            self._ledger = OwnNames({n: d for n, d in names.items() if n.startswith("localhost/")})
        by_step = chance.random() < 0.5
        last = Scenario("random", "", [self._last(chance)], BOUND)
        look = Round(self._rig, self._tally, last, f"random {number} of seed {self._seed}")
        self._rig.upstream.forget()
        self._rig.nursery.steps.arm(Mode.OFF)
        node, ready = self._rig.start(self._root, BOUND)
        look.must(ready, "it does not start")
        if by_step:
            self._rig.nursery.steps.arm(Mode.KILL, chance.randrange(1, MOST_STEPS))
        self._work(node, chance.uniform(0.05, LONGEST), number)
        look.struck(node)
        self._counted(look, "random step" if by_step else "random time")
        if number % AGAIN == AGAIN - 1:
            self._kill_start(look)
        look.recover(self._root, self._ledger)

    def _last(self, chance: random.Random) -> Deed:
        """What is asked for after the kill; there may be no room for it."""
        deed = deeds.pull(chance.choice([*self._images, "c"]))
        return Deed(deed.name, deed.do, content=frozenset({"UNKNOWN"}))

    def _kill_start(self, look: Round) -> None:
        """The daemon that would mend what was left is killed while it does."""
        mode = self._random.choice([Mode.KILL, Mode.TEAR])
        arm = partial(self._rig.nursery.steps.arm, mode, self._random.randrange(1, 60))
        node, _ = self._rig.start(self._root, BOUND, arm=arm)
        look.struck(node)
        self._counted(look, "random start")

    def _counted(self, look: Round, kind: str) -> None:
        self._tally.kills[kind] += 1
        name = self._rig.nursery.steps.struck or "at any time"
        self._tally.steps[name] += 1
        look.where += f" ({name})"

    @property
    def _images(self) -> list[str]:
        return [name for name in self._rig.upstream.images if name.startswith("m")]

    def _work(self, node: Node, seconds: float, number: int) -> None:
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(CLIENTS) as threads:
            for client in range(CLIENTS):
                chance = random.Random(f"{self._seed} {number} {client}")
                threads.submit(self._ask, node, client, chance, until)
            node.dies(seconds)
            node.kill()

    def _ask(self, node: Node, client: int, chance: random.Random, until: float) -> None:
        """One after the other, until the daemon is gone."""
        while time.monotonic() < until:
            deed = self._any(client, chance)
            with self._lock:
                self._ledger.begin(deed)
            try:
                deed(node, again=True)
            except Died:
                return
            except Refused as refused:
                if deed.takes or refused.code not in _FAIR:
                    self._tally.violations.append(f"random {client}: {deed.name}: {refused}")
                continue
            with self._lock:
                self._ledger.done(deed)

    def _any(self, client: int, chance: random.Random) -> Deed:
        own = f"localhost/t{client}-{chance.randrange(3)}"
        image = chance.choice(self._images)
        name = f"{UP}/{image}:1"
        large = max(self._rig.upstream.images["c"].items(), key=lambda item: item[1])[0]
        pushed = Pushed.made(chance.randrange(100), 30_000, 60_000)
        return chance.choice(
            [
                _unnamed(deeds.pull(image)),
                _unnamed(deeds.pulls("c", large, 2)),
                deeds.tag(name, f"{own}:1", self._rig.upstream.digests[image]),
                deeds.rmi(f"{own}:1"),
                pushed.to(own),
                _unnamed(pushed.to(f"{UP}/r{chance.randrange(10**9)}")),
                deeds.collect([]),
                deeds.verify(),
                deeds.pin(f"{UP}/m0:1"),
                deeds.unpin(f"{UP}/m0:1"),
            ]
        )


#: What may be answered in place of doing it: what is asked for has just gone, or there is no room.
_FAIR = frozenset({"MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN", "UNKNOWN", "404"})


def _unnamed(deed: Deed) -> Deed:
    """Whose names may go at any time."""
    return Deed(deed.name, deed.do)
