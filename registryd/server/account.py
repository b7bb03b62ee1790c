"""What a request came to: kept while it is answered, for its log line and for the metrics."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web


@dataclass(slots=True)
class Account:
    """One request, as far as it is known by now; handlers fill in what they learn.

    ``reference`` is the repository, tag or digest that was meant; ``source`` is where the answer
    came from: ``cache``, ``upstream`` (on its way here) or ``""`` for no content; ``sent`` counts
    bytes of content; ``stale`` says why what is held was given without its registry's word.
    """

    user: str = ""
    reference: str = ""
    digest: str = ""
    source: str = ""
    sent: int = 0
    first_byte: float | None = None
    stale: str = ""


ACCOUNT: web.RequestKey[Account] = web.RequestKey("account", Account)


def account_of(request: web.Request) -> Account:
    """The account of a request, opened when it is first asked for."""
    account = request.get(ACCOUNT)
    if account is None:
        account = request[ACCOUNT] = Account()
    return account
