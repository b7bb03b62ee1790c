"""What the parts of a node count while they work; whoever shows it reads it here.

Invariants:
- counted on the event loop alone, so without locks; it begins with the process and only grows
  (but for ``away``, which is how things are now);
- the number of keys is bounded: registries beyond the first ``NAMED`` are counted as one;
- no key names a repository, a digest or a user.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from cache.errors import Fault

#: Registries that are counted by their names. With ``allow = ["*"]`` a client can name any.
NAMED = 64
OTHER = "other"
_WORD = re.compile("[A-Z][a-z]*")


class Counts:
    """The counts of one node; ``registries`` (those of the configuration) have names first."""

    def __init__(self, registries: Iterable[str] = ()) -> None:
        #: Requests for content by kind (``manifest``, ``blob``) and outcome: ``hit`` (it was
        #: here), ``miss`` (it was fetched for this request), ``wait`` (its fetch was under way).
        self.lookups: Counter[tuple[str, str]] = Counter()
        #: Answers of registries by registry and class of status (``2xx``; ``none``: no answer).
        self.answers: Counter[tuple[str, str]] = Counter()
        #: Bytes of blobs that came from upstream, by registry.
        self.fetched: Counter[str] = Counter()
        #: Bytes of blobs given to clients, by where they came from (``cache``, ``upstream``).
        self.served: Counter[str] = Counter()
        self.flights_started = 0
        #: Flights that brought nothing, by the kind of error (``digest_mismatch``).
        self.flights_failed: Counter[str] = Counter()
        #: ``blobs`` and ``bytes`` that were given without being kept, as there was no room.
        self.streamed: Counter[str] = Counter(blobs=0, bytes=0)
        #: Images made one file: ``made`` here, ``brought`` from the node that made it, ``failed``.
        self.conversions: Counter[str] = Counter()
        #: Answers without the registry's word, by cause.
        self.stale: Counter[str] = Counter()
        #: Questions whether a caller may read: ``proven``, ``denied``, ``unanswered``.
        self.proofs: Counter[str] = Counter()
        #: Registries that something stale was given for since they last answered well, with why.
        self.away: dict[str, str] = {}
        self._names = set(list(registries)[:NAMED])

    def name(self, registry: str) -> str:
        """What a registry is counted as."""
        if registry not in self._names:
            if len(self._names) >= NAMED:
                return OTHER
            self._names.add(registry)
        return registry

    def answered(self, registry: str, status: int | None) -> None:
        """A registry has answered, or (None) has not."""
        name = self.name(registry)
        self.answers[name, "none" if status is None else f"{status // 100}xx"] += 1
        if status is not None and status < 400:
            self.away.pop(name, None)

    def flight_failed(self, error: BaseException) -> None:
        """A flight has brought nothing."""
        words = _WORD.findall(type(error).__name__) if isinstance(error, Fault) else ["internal"]
        self.flights_failed["_".join(words).lower()] += 1

    def gave_stale(self, registry: str, cause: str) -> None:
        """What is held was given without this registry's word."""
        self.stale[cause] += 1
        if registry:
            self.away[self.name(registry)] = cause
