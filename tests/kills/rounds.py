"""One round: a daemon works, is killed, and what it left is looked at, by others and by its next.

Looked at are three states: the folder as the kill left it; the folder and the API after the next
start; the folder after the same work was asked for again.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.kills.checks import State, examine, settled
from tests.kills.deeds import Deed, Ledger
from tests.kills.node import Died, Node, Refused
from tests.kills.rig import Rig, Sections
from tests.kills.steps import Mode
from tests.kills.upstream import Told

#: What a line has to say of a disk that refuses.
_CLEAR = re.compile(
    r"No space left|Input/output error|disk is full|disk I/O error|unable to open|readonly database"
)
#: How often a daemon that runs is looked at before what is wrong counts: it works meanwhile.
LOOKS = 5
#: Seconds in which a daemon that is struck is gone.
SOON = 20.0


@dataclass(frozen=True)
class Scenario:
    """Work that is killed: ``deeds`` on a copy of the cache ``base``.

    ``starting``: the steps of the start count too. ``incomplete``: a blob is put aside, so names
    may need it. ``lost``: it begins without a database, so that registries have to prove anew what
    they gave. ``final``: what must be true in the end, as faults.
    """

    name: str
    base: str
    deeds: Sequence[Deed] | Callable[[], Sequence[Deed]]
    sections: Sections = field(default_factory=dict)
    starting: bool = False
    incomplete: bool = False
    aside: bool = False
    lost: bool = False
    final: Callable[[Rig, Node, Sequence[Deed]], Sequence[str]] = lambda *_: ()


@dataclass
class Tally:
    """What was done and found."""

    kills: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)
    jumps: int = 0
    states: int = 0
    files: int = 0
    names: int = 0
    resumed: int = 0
    violations: list[str] = field(default_factory=list)

    def looked(self, state: State, where: str) -> None:
        """A state was examined."""
        self.states += 1
        self.files += len(state.blobs)
        self.names += len(state.names) + len(state.rows)
        self.violations += [f"{where}: {fault}" for fault in state.faults]


@dataclass
class Round:
    """A scenario, once."""

    rig: Rig
    tally: Tally
    scenario: Scenario
    where: str = ""

    def __post_init__(self) -> None:
        deeds = self.scenario.deeds
        self.deeds = deeds() if callable(deeds) else deeds

    def count(self) -> list[str]:
        """Run it without a kill; the steps it takes."""
        self.where = f"{self.scenario.name} unharmed"
        root = self.rig.copy(self.scenario.base)
        ledger = Ledger(_names(examine(root, incomplete=True)))
        node, ready = self._begin(root, partial(self.rig.nursery.steps.arm, Mode.COUNT))
        self.must(ready, "it does not start")
        self._work(node, ledger)
        trace = self.rig.nursery.steps.trace()
        self._finish(root, node, ledger)
        return trace

    def _begin(self, root: Path, arm: Callable[[], None]) -> tuple[Node, bool]:
        """Start it; the steps count from there on, or from where it begins to work."""
        if self.scenario.starting:
            return self.rig.start(root, self.scenario.sections, arm=arm)
        begun = self.rig.start(root, self.scenario.sections)
        arm()
        return begun

    def kill(self, mode: Mode, step: int, *, match: str = "") -> str:
        """Run it, and kill it at a step (of those named ``match``); its name ("": not reached)."""
        self.where = f"{self.scenario.name} {mode.name.lower()} {step}"
        steps, root = self.rig.nursery.steps, self.rig.copy(self.scenario.base)
        ledger = Ledger(_names(examine(root, incomplete=True)))
        arm = partial(steps.arm, mode, step, match=match)
        node, ready = self._begin(root, arm)
        if ready:
            self._work(node, ledger)
        self.struck(node)
        name = steps.struck
        self.where += f" ({name or 'at rest'})"
        self.tally.kills[self.scenario.name] += 1
        self.tally.steps[name or "at rest"] += 1
        self.recover(root, ledger)
        return name

    def fail(self, error: int, step: int, *, lasting: bool, match: str = "") -> str:
        """Run it, and let a step fail (``lasting``: and all that follow); the step's name.

        The daemon has to say so in a line and live, to serve what it held, and to do what it was
        asked for once the disk is well again, without a new start.
        """
        mode = Mode.FAIL_ON if lasting else Mode.FAIL
        kind = f"{errno.errorcode[error]}{' lasting' if lasting else ''}"
        self.where = f"{self.scenario.name} {kind} {step}"
        steps, root = self.rig.nursery.steps, self.rig.copy(self.scenario.base)
        ledger = Ledger(_names(examine(root, incomplete=True)))
        arm = partial(steps.arm, mode, step, match=match, error=error)
        node, ready = self._begin(root, arm)
        if ready:
            self._suffer(node, ledger)
            self._check_held(node)
        else:
            self._check_ended(node)
        name = steps.struck
        self.where += f" ({name})"
        self.tally.failures[kind] += 1
        self.tally.steps[name or "not reached"] += 1
        steps.disarm()
        if ready and node.alive:
            self._again(node, ledger)
        node.kill()
        self.recover(root, ledger)
        return name

    def _suffer(self, node: Node, ledger: Ledger) -> None:
        """Ask for everything, whatever is answered; each refusal is one line that says what."""
        for deed in self.deeds:
            ledger.begin(deed)
            try:
                deed(node, again=True)
                ledger.done(deed)
            except Refused as refused:
                if "\n" in refused.words or not _CLEAR.search(refused.words):
                    self._add([f"{deed.name} was refused so: {refused}"], "at work")
            except Died as died:
                if node.dies(0.2):
                    self._add([repr(died), "the daemon ended"], "at work")

    def _check_held(self, node: Node) -> None:
        """What was there before is given, and is what it was, with the disk as bad as it is."""
        try:
            for name in ("config", "manifest"):
                if node.alive and self.scenario.base not in ("empty", "lost", "spoilt"):
                    node.get(f"/api/v1/{name}?reference=localhost/x:1")
        except (Died, Refused) as error:
            self._add([f"what was held is not given: {error!r}"], "at work")

    def _check_ended(self, node: Node) -> None:
        """A daemon that could not start has said why in one line of its own."""
        said = [line for line in self.rig.log if line.startswith("registryd: ")]
        if len(said) != 1 or not _CLEAR.search(said[0]):
            self._add(["it ended without a clear line", *self.rig.log[-3:]], "start")

    def struck(self, node: Node) -> None:
        """Wait for the end of a daemon that was struck, and end one that was not."""
        if self.rig.nursery.steps.struck:
            self.must(node.dies(SOON), "it lives on")
        node.kill()
        self.rig.nursery.steps.disarm()

    def recover(self, root: Path, ledger: Ledger) -> None:
        """Look at what a kill has left; start again; ask for the same again; look again."""
        left = examine(root, incomplete=self.scenario.incomplete)
        self.tally.looked(left, self.where)
        self.revive(root, ledger, left)

    def revive(self, root: Path, ledger: Ledger, left: State) -> None:
        """Start again; ask for the same again; look again."""
        before = self.rig.upstream.told()
        node, ready = self.rig.start(root, self.scenario.sections)
        self.must(ready, "it does not start again")
        if not ready:
            self._end()
            return
        self._check_started(root, node, ledger)
        self._again(node, ledger)
        if not self.scenario.lost:
            self._check_fetched(left, examine(root).files, before)
        self._finish(root, node, ledger)

    def _check_started(self, root: Path, node: Node, ledger: Ledger) -> None:
        for left in reversed(range(LOOKS)):  # it may be making room meanwhile
            state = examine(root, incomplete=self.scenario.incomplete)
            state.faults += settled(root, state, aside=self.scenario.aside)
            shown = node.images()
            if shown != state.names:
                state.faults.append(f"images says {shown}, index.json {state.names}")
            if not (state.faults and left):
                break
            node.dies(0.1)
        self.tally.looked(state, f"{self.where}, started")
        if not self.scenario.incomplete:
            self._add(list(ledger.faults(shown, "names")), "started")

    def _again(self, node: Node, ledger: Ledger) -> None:
        try:
            for deed in self.deeds:
                ledger.begin(deed)
                deed(node, again=True)
                ledger.done(deed)
        except (Died, Refused, AssertionError) as error:
            self._add([repr(error)], "asked for again")

    def _check_fetched(
        self, left: State, files: Mapping[str, tuple[int, int]], before: Told
    ) -> None:
        """No byte was fetched again that had been proven, or was written down as here."""
        now = self.rig.upstream.told()
        sizes = {
            d: size for image in self.rig.upstream.images.values() for d, size in image.items()
        }
        for digest, size in sizes.items():
            again = now.sent[digest] - before.sent[digest]
            stayed = digest in left.files and left.files[digest] == files.get(digest)
            if stayed and now.asked[digest] > before.asked[digest]:
                self._add([f"{digest} was here, and was asked for again ({again} bytes)"], "fetch")
            elif digest in left.arriving and again:
                held = left.arriving[digest]
                self.tally.resumed += held > 0
                if again > size - held:
                    self._add([f"{digest}: {held} of {size} were here, {again} came"], "fetch")

    def _work(self, node: Node, ledger: Ledger) -> None:
        """Ask for everything, until it is done or the daemon is not there any more."""
        try:
            for deed in self.deeds:
                ledger.begin(deed)
                deed(node)
                ledger.done(deed)
        except Died:
            if not self.rig.nursery.steps.struck:
                self._add(["it died by itself"], "at work")
        except (Refused, AssertionError) as error:
            if not self.rig.nursery.steps.struck:
                self._add([repr(error)], "at work")

    def _finish(self, root: Path, node: Node, ledger: Ledger) -> None:
        if node.alive:
            self._add(self.scenario.final(self.rig, node, self.deeds), "in the end")
            shown = node.images()
            self._add(list(ledger.faults(shown, "names")), "in the end")
        node.kill()
        state = examine(root)
        self.tally.looked(state, f"{self.where}, in the end")
        self._add(settled(root, state, aside=self.scenario.aside), "in the end")
        self._end()

    def _end(self) -> None:
        self._add([line for line in self.rig.log if "Traceback" in line or ("ERROR" in line
                   and "quarantined" not in line)], "log")  # fmt: skip
        self.rig.clear()

    def must(self, holds: bool, words: str) -> None:
        """A violation where it does not."""
        if not holds:
            self._add([words, *self.rig.log[-3:]], "start")

    def _add(self, faults: Sequence[str], when: str) -> None:
        self.tally.violations += [f"{self.where}, {when}: {fault}" for fault in faults]


def _names(state: State) -> dict[str, str]:
    return dict(state.names)
