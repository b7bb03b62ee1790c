"""Secrets have a type whose repr is stars, and there is one redactor for URLs and headers."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from cache.marks import override

#: Query keys that are safe to show; every other value (signatures, tokens) becomes stars.
SHOWN_QUERY_KEYS = frozenset({"scope", "service", "mount", "from", "digest", "n", "last", "ns"})
#: Headers whose values are never shown.
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})

STARS = "***"


class Secret:
    """A text that must not be seen: repr, str and format give stars; ``reveal()`` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; call it only where it goes on the wire."""
        return self._text

    @override
    def __repr__(self) -> str:
        return STARS

    @override
    def __str__(self) -> str:
        return STARS

    def __bool__(self) -> bool:
        return bool(self._text)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    @override
    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Login:
    """A credential for one registry: user and password, or an identity (refresh) token.

    ``registry_token`` is a bearer token that somebody else was given, to be shown as it is.
    ``origin`` says where it came from (a file and key, a helper, a flag), for people to read;
    ``stored`` that it was found there rather than given for the occasion: it may be out of date,
    and is no reason to refuse what nobody needs a login for.
    """

    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    identity_token: Secret = field(default_factory=lambda: Secret(""))
    registry_token: Secret = field(default_factory=lambda: Secret(""))
    origin: str = field(default="", compare=False)
    stored: bool = field(default=False, compare=False)


#: The login of a caller who has none and may not use ours.
NOBODY = Login()


def redact_url(url: str) -> str:
    """This URL without user and password, and with stars for query values not known harmless."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    pairs = (
        (key, value if key in SHOWN_QUERY_KEYS else STARS)
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    query = "&".join(f"{quote(key)}={quote(value, safe=':/,*@')}" for key, value in pairs)
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def redact_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """These headers with the values of the secret ones hidden."""
    return [(k, STARS if k.lower() in SECRET_HEADERS else v) for k, v in headers]
