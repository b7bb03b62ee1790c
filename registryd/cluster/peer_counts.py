"""What the exchange of chunks with other nodes has come to on this one: for metrics and people.

Invariants:
- counted on the event loop alone, so without locks; it begins with the process and only grows;
- no key names a repository or a digest; ``liars`` has the names of nodes, which are few.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from registryd.cluster.steps import Counts


@dataclass(slots=True)
class PeerCounts:
    """The counts of one node.

    ``received`` and ``sent`` are bytes of chunks from and to peers, ``upstream`` the chunks asked
    of registries, ``double`` those of them that somebody else may have asked as well, by reason.
    """

    received: int = 0
    sent: int = 0
    upstream: int = 0
    redirects: int = 0
    #: Answers by which peers turned us away.
    refusals: int = 0
    hedges: int = 0
    double: Counter[str] = field(default_factory=Counter)
    #: Requests to peers that brought no chunk, by kind (see ``peers.Failure``).
    failures: Counter[str] = field(default_factory=Counter)
    #: Wrong chunks by the node that made them.
    liars: Counter[str] = field(default_factory=Counter)
    #: What peers were answered: ``serve``, ``redirect``, ``refuse``.
    answers: Counter[str] = field(default_factory=Counter)
    #: Chunks by how they were checked: ``right``, ``wrong``, ``unproven``.
    checks: Counter[str] = field(default_factory=Counter)
    #: Those bytes of ``received`` that came from another zone.
    far: int = 0

    def take_in(self, fetch: Counts) -> None:
        """Add what one fetch has cost."""
        self.upstream += fetch.upstream
        self.redirects += fetch.redirects
        self.hedges += fetch.hedges
        self.double.update(fetch.double)
        self.failures.update(fetch.failures)

    def copy(self) -> PeerCounts:
        """The same counts, apart from these."""
        return PeerCounts(
            self.received,
            self.sent,
            self.upstream,
            self.redirects,
            self.refusals,
            self.hedges,
            self.double.copy(),
            self.failures.copy(),
            self.liars.copy(),
            self.answers.copy(),
            self.checks.copy(),
            self.far,
        )
