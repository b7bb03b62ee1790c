"""What ``WWW-Authenticate`` asks for, and the scopes of tokens.

RFC 9110, section 11.6.1; the token specification of the distribution project, "Scope".

Invariants:
- parsing never raises: what cannot be read is passed over, and the rest is still used;
- schemes and parameter names are lower case, values are as they came, with escapes undone;
- every parameter is there once: the first one counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from cache.marks import override

EVERYTHING: Final = "*"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[ \t]+([A-Za-z0-9._~+/-]+=*)[ \t]*(?=,|$)")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
# Wider than a token: some registries leave the quotes of a realm out.
_BARE = re.compile(r'[^\s",]+')
_BETWEEN = re.compile(r"[ \t,]*")
_UNREADABLE = re.compile(r"(?:\"[^\"]*\"?|[^\",])+")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in which a server would be convinced: a scheme with parameters, or with a token."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    token: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is for: actions on a named thing, ``repository:library/alpine:pull``.

    A scope of another shape is kept whole in ``kind``, without name and actions.
    """

    kind: str
    name: str = ""
    actions: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read one scope; the name may contain colons (a host and port)."""
        kind, _, rest = text.partition(":")
        name, colon, actions = rest.rpartition(":")
        if not colon or not name:
            return cls(text)
        return cls(kind, name, frozenset(action for action in actions.split(",") if action))

    def covers(self, other: Scope) -> bool:
        """Whether a token for this scope also does for the other one."""
        if (self.kind, self.name) != (other.kind, other.name):
            return False
        return EVERYTHING in self.actions or other.actions <= self.actions

    @override
    def __str__(self) -> str:
        if not self.name:
            return self.kind
        return f"{self.kind}:{self.name}:{','.join(sorted(self.actions))}"


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """The scopes of a challenge's ``scope`` parameter, which are separated by spaces."""
    return tuple(Scope.parse(part) for part in text.split())


def merge(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """These scopes, each thing once with all its actions, in the order of first mention."""
    merged: dict[tuple[str, str], frozenset[str]] = {}
    for scope in scopes:
        key = (scope.kind, scope.name)
        merged[key] = merged.get(key, frozenset()) | scope.actions
    everything = frozenset({EVERYTHING})
    return tuple(
        Scope(kind, name, everything if EVERYTHING in actions else actions)
        for (kind, name), actions in merged.items()
    )


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of all ``WWW-Authenticate`` headers of one answer, in order."""
    return [challenge for header in headers for challenge in _Scanner(header).challenges()]


class _Scanner:
    """Walks over one header. A name that "=" follows is a parameter, any other is a scheme."""

    def __init__(self, header: str) -> None:
        self._header = header
        self._at = 0
        self._found: list[tuple[str, dict[str, str], str]] = []

    def challenges(self) -> list[Challenge]:
        while self._at < len(self._header):
            self._step()
        return [
            Challenge(scheme, MappingProxyType(parameters), token)
            for scheme, parameters, token in self._found
        ]

    def _step(self) -> None:
        if self._take(_BETWEEN):
            return
        name = self._take(_TOKEN)
        if name and self._take(_EQUALS):
            self._parameter(name.lower())
        elif name:
            self._found.append((name.lower(), {}, self._take(_TOKEN68, 1)))
        else:
            self._take(_UNREADABLE)

    def _parameter(self, name: str) -> None:
        quoted = _QUOTED.match(self._header, self._at)
        if quoted:
            self._at = quoted.end()
            value = _ESCAPE.sub(r"\1", quoted[1])
        else:
            value = self._take(_BARE)
        if self._found and (quoted or value):
            self._found[-1][1].setdefault(name, value)

    def _take(self, pattern: re.Pattern[str], group: int = 0) -> str:
        """What the pattern matches here, stepping over it; empty when it does not match."""
        match = pattern.match(self._header, self._at)
        if not match:
            return ""
        self._at = match.end()
        return match[group]
