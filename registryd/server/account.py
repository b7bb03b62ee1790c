"""What a request came to: kept while it is answered, for its log line and for the metrics.

Invariant: handlers fill in values as they have them; texts are made of them only when somebody
reads the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from cache.content import Digest
from cache.errors import Fault
from registryd.oci.reference import Reference


@dataclass(slots=True)
class Account:
    """One request, as far as it is known by now; handlers fill in what they learn.

    ``reference`` is the repository, tag or digest that was meant; ``source`` is where the answer
    came from: ``cache``, ``upstream`` (on its way here) or ``""`` for no content; ``sent`` counts
    bytes of content; ``stale`` says why what is held was given without its registry's word.
    ``kind`` and ``outcome`` are those of ``Counts.lookups``; ``first_byte`` is when the first byte
    was given (time.monotonic). ``sender`` names the host that a blob on its way here comes from.
    ``calm``: that this is refused is how things go, and no warning.
    """

    user: str = ""
    reference: Reference | str = ""
    digest: Digest | str = ""
    source: str = ""
    kind: str = ""
    outcome: str = ""
    sent: int = 0
    first_byte: float | None = None
    stale: str = ""
    calm: bool = False
    sender: Callable[[], str] | None = None

    @property
    def registry(self) -> str:
        """The registry that was meant, "" where none was."""
        if isinstance(self.reference, Reference):
            return self.reference.registry
        try:
            return Reference.parse(self.reference, default_tag=None).registry
        except Fault:
            return ""

    def found(self, kind: str, outcome: str) -> None:
        """Content of this kind is given: a ``hit``, a ``miss`` or a ``wait``."""
        self.kind, self.outcome = kind, outcome
        self.source = "cache" if outcome == "hit" else "upstream"

    def begins(self) -> None:
        """The first byte of content is given now."""
        if self.first_byte is None:
            self.first_byte = time.monotonic()


ACCOUNT: web.RequestKey[Account] = web.RequestKey("account", Account)


def account_of(request: web.Request) -> Account:
    """The account of a request, opened when it is first asked for."""
    account = request.get(ACCOUNT)
    if account is None:
        account = request[ACCOUNT] = Account()
    return account
