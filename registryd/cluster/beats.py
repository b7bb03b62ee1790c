"""What members tell of themselves over NATS: a beat, as a value and as JSON. Pure.

Invariants:
- a Beat that exists makes sense: its name is a host, its URL one to dial, its numbers are sizes;
- no time of day is in it: clocks are never compared;
- keys that are not known are left alone: a newer node may tell more.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from registryd.cluster.identity import node_host
from registryd.cluster_ports import ClusterNode
from registryd.oci.errors import UsageError

#: A beat has a few hundred bytes.
BEAT_LIMIT: Final = 4096
#: What a beat may say of the seconds until the next one.
EVERY_LIMIT: Final = 3600.0
_COUNT_LIMIT: Final = 1 << 63
_TEXT_LIMIT: Final = 63
_URL_LIMIT: Final = 300
_URL: Final = re.compile(r"https://([a-z0-9._-]+|\[[0-9a-f:]+\]):[0-9]+")


class Kind(Enum):
    """What a beat is told for."""

    HELLO = "hello"  # I am here, who else is?
    BEAT = "beat"  # I am here
    BYE = "bye"  # I leave


class BeatInvalid(ValueError):
    """Raised for what is no beat; its text is for the log."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One member's word. ``run`` differs for each process, ``every`` is until its next word."""

    name: str
    url: str
    run: str
    every: float
    zone: str = ""
    version: str = ""
    load: int = 0
    free: int | None = None
    kind: Kind = Kind.BEAT

    @property
    def node(self) -> ClusterNode:
        """The member that it is of."""
        return ClusterNode(self.name, self.url, self.zone, self.version, self.load, self.free, 0.0)

    def encode(self) -> bytes:
        """The beat as it is sent."""
        return json.dumps({**asdict(self), "kind": self.kind.value}, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, raw: bytes) -> Beat:
        """The beat that was sent. Raises BeatInvalid."""
        if len(raw) > BEAT_LIMIT:
            raise BeatInvalid(f"has more than {BEAT_LIMIT} bytes")
        try:
            said = json.loads(raw)
        except (ValueError, RecursionError):
            raise BeatInvalid("is no JSON") from None
        if not isinstance(said, dict):
            raise BeatInvalid("is no object")
        return cls(
            name=_name(said.get("name")),
            url=_url(said.get("url")),
            run=_text(said, "run"),
            every=_every(said.get("every")),
            zone=_text(said, "zone"),
            version=_text(said, "version"),
            load=_count(said.get("load"), "load") or 0,
            free=_count(said.get("free"), "free"),
            kind=_kind(said.get("kind")),
        )


def _name(value: object) -> str:
    with suppress(UsageError):
        if isinstance(value, str) and node_host(value) == value:
            return value
    raise BeatInvalid("its name is no host")


def _url(value: object) -> str:
    """``https://HOST:PORT`` and nothing more."""
    if isinstance(value, str) and len(value) <= _URL_LIMIT:
        with suppress(ValueError):
            parts = urlsplit(value)
            if parts.hostname and parts.port and _URL.fullmatch(value):
                return value
    raise BeatInvalid("its url is not https://HOST:PORT")


def _text(said: dict[str, object], key: str) -> str:
    value = said.get(key, "")
    if isinstance(value, str) and len(value) <= _TEXT_LIMIT and value.isprintable():
        return value
    raise BeatInvalid(f"its {key} is no short text")


def _every(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BeatInvalid("its every is no number")
    if 0 < value <= EVERY_LIMIT:
        return float(value)
    raise BeatInvalid("its every is not a number of seconds")


def _count(value: object, key: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _COUNT_LIMIT:
        return value
    raise BeatInvalid(f"its {key} is no count")


def _kind(value: object) -> Kind:
    try:
        return Kind(value)
    except ValueError:
        raise BeatInvalid("is of no kind that is known") from None
