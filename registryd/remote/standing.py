"""What the hosts of one registry have come to, content by content.

Invariants:
- a host whose bytes were wrong is not asked for that content again; what a tag means may change,
  so for a tag that holds for a while only;
- a host that broke off while it sent something comes after the others for it, for a while;
- all that is remembered is bounded.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

#: Seconds for which a host that broke off comes after the others.
BROKEN = 60.0
#: Things remembered of each kind.
KEPT = 4096


class Standing:
    """Which host has sent what, and how that went. ``target`` is a path of the API."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._served: OrderedDict[str, set[str]] = OrderedDict()
        self._broke: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._wrong: OrderedDict[tuple[str, str], float] = OrderedDict()

    def served(self, target: str, host: str) -> None:
        """The host sends this now."""
        self._served.setdefault(target, set()).add(host)
        self._served.move_to_end(target)
        _trim(self._served)

    def broke_off(self, target: str, host: str) -> None:
        """The host has broken off while it sent this."""
        self._broke[target, host] = self._now()
        self._broke.move_to_end((target, host))
        _trim(self._broke)

    def broke_at(self, target: str, host: str) -> float:
        """When the host broke off, if that still counts: who did so last is asked last."""
        moment = self._broke.get((target, host), -math.inf)
        return moment if self._now() - moment < BROKEN else -math.inf

    def is_wrong(self, target: str, host: str) -> bool:
        """Whether what this host sends there is known to be wrong."""
        return self._now() < self._wrong.get((target, host), -math.inf)

    def blame(self, target: str, hosts: Iterable[str]) -> bool:
        """What came was wrong: do not ask those of these hosts again that have sent it.

        False when none of them has, or each had been blamed before: then it does not help.
        """
        sent = self._served.pop(target, set()) & set(hosts)
        blamed = {host for host in sent if not self.is_wrong(target, host)}
        until = math.inf if ":" in target else self._now() + BROKEN
        for host in blamed:
            self._wrong[target, host] = until
        _trim(self._wrong)
        return bool(blamed)


def _trim(table: OrderedDict[Any, Any]) -> None:
    while len(table) > KEPT:
        table.popitem(last=False)
