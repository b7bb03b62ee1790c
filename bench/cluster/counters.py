"""Reading what was counted: bytes of links, answers in an access log, CPU, a daemon's metrics.

Everything that parses takes text, so that it can be tried without a kernel.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
_ANSWER = re.compile(r'"GET /v2/(?P<repository>\S+)/blobs/(?P<digest>sha256:\w+) HTTP/1\.[01]" '
                     r"(?P<status>\d{3}) (?P<size>\d+)")  # fmt: skip
_SAMPLE = re.compile(r"(?P<name>registryd_\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")


@dataclass(frozen=True, slots=True)
class Passed:
    """Bytes that a host has sent and taken over its link, headers included."""

    sent: int
    taken: int

    def __sub__(self, before: Passed) -> Passed:
        return Passed(self.sent - before.sent, self.taken - before.taken)


def passed(listing: str) -> dict[str, Passed]:
    """By port of the switch, from ``ip -j -s link``: what a port receives its host has sent."""
    return {
        link["ifname"]: Passed(link["stats64"]["rx"]["bytes"], link["stats64"]["tx"]["bytes"])
        for link in json.loads(listing)
    }


@dataclass(frozen=True, slots=True)
class Answers:
    """What a registry's access log says of blobs: bytes of content, and answers by digest."""

    size: int = 0
    by_digest: Counter[str] = field(default_factory=Counter)


def answers(log: str) -> Answers:
    """The answers to GET of a blob in docker-registry's access log (combined log format)."""
    size, by_digest = 0, Counter[str]()
    for match in _ANSWER.finditer(log):
        if match["status"] in ("200", "206"):
            size += int(match["size"])
            by_digest[match["digest"]] += 1
    return Answers(size, by_digest)


def process_seconds(stat: str) -> float:
    """CPU seconds of a process with its dead children, from ``/proc/PID/stat``."""
    words = stat.rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / TICKS


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU seconds that these processes have used."""
    return sum(process_seconds(Path(f"/proc/{pid}/stat").read_text()) for pid in pids)


@dataclass(frozen=True, slots=True)
class Machine:
    """Seconds that the machine's processors had, and those in which they had nothing to do."""

    all: float
    idle: float

    def idle_since(self, before: Machine) -> float:
        """The idle share since then, percent."""
        return 100 * (self.idle - before.idle) / max(self.all - before.all, 1 / TICKS)


def machine(stat: str) -> Machine:
    """From ``/proc/stat``; waiting for a disk is idle too."""
    values = [int(word) for word in stat.split("\n", 1)[0].split()[1:9]]
    return Machine(sum(values) / TICKS, (values[3] + values[4]) / TICKS)


def samples(text: str) -> dict[str, float]:
    """A daemon's counters by name and labels, from its metrics; no histograms' buckets."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line)
        if match and not match["name"].endswith(("_bucket", "_created")):
            labels = f"{{{match['labels']}}}" if match["labels"] else ""
            found[match["name"] + labels] = float(match["value"])
    return found


class Watch:
    """The machine's idle share and the links while something runs, over all and by the second."""

    def __init__(self, links: Callable[[], dict[str, Passed]]) -> None:
        self._links = links
        self._first = self._read()
        self._passed = links()
        self.seconds: list[float] = []
        #: What each host has sent and taken in each second.
        self.passed: list[dict[str, Passed]] = []

    @property
    def idle(self) -> float:
        return self._read().idle_since(self._first)

    @staticmethod
    def _read() -> Machine:
        return machine(Path("/proc/stat").read_text())

    def _look(self, ended: threading.Event) -> None:
        before, links = self._first, self._passed
        while not ended.wait(1):
            now, passed = self._read(), self._links()
            self.seconds.append(now.idle_since(before))
            self.passed.append(_since(links, passed))
            before, links = now, passed

    def all_passed(self) -> dict[str, Passed]:
        """What each host has sent and taken since the beginning."""
        return _since(self._passed, self._links())


def _since(before: dict[str, Passed], now: dict[str, Passed]) -> dict[str, Passed]:
    return {name: passed - before[name] for name, passed in now.items() if name in before}


@contextmanager
def watched(links: Callable[[], dict[str, Passed]]) -> Iterator[Watch]:
    """Look at the machine and its links once a second during the block."""
    watch, ended = Watch(links), threading.Event()
    watcher = threading.Thread(target=watch._look, args=(ended,))
    watcher.start()
    try:
        yield watch
    finally:
        ended.set()
        watcher.join()
