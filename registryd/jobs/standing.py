"""How far one node is with a job, and how far all of them are together (pure).

Invariants:
- a Standing that exists is valid, whoever wrote its record;
- it speaks of one revision of a job: done with an older one is not done;
- no text in it is longer than ERROR_LIMIT, on one line, and can be printed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, cast

from registryd.jobs.errors import JobInvalid
from registryd.jobs.record import moment, seconds_of, whole
from registryd.oci.fields import SIZE_LIMIT, Malformed, load, text

Stage = Literal["waiting", "fetching", "done", "failed", "cancelled"]
STAGES: Final = ("waiting", "fetching", "done", "failed", "cancelled")
#: Stages in which a node does nothing more for this revision.
SETTLED: Final = frozenset({"done", "failed", "cancelled"})
#: Characters of an error's line.
ERROR_LIMIT: Final = 300
#: Bytes of a record: a line of an error in the longest encoding, and little else.
STANDING_LIMIT: Final = 8 << 10
NODE_LIMIT: Final = 260
#: No job takes longer (seconds): a number beyond it is nonsense.
SECONDS_LIMIT: Final = 10.0**8


@dataclass(frozen=True, slots=True)
class Standing:
    """A node's word: ``here`` of ``total`` bytes, ``blobs`` and ``images`` that are here whole."""

    job: str
    node: str
    revision: int = 1
    stage: Stage = "waiting"
    here: int = 0
    total: int = 0
    blobs: int = 0
    images: int = 0
    error: str = ""
    seconds: float = 0.0
    at: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether the node does nothing more for it."""
        return self.stage in SETTLED

    def failed(self, error: str) -> Standing:
        """The same, ended by an error."""
        return replace(self, stage="failed", error=line_of(error))

    def as_json(self) -> dict[str, object]:
        """The record, as JSON."""
        return {
            "job": self.job,
            "node": self.node,
            "revision": self.revision,
            "state": self.stage,
            "bytes": self.here,
            "total": self.total,
            "blobs": self.blobs,
            "images": self.images,
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "at": moment(self.at),
        }

    def encode(self) -> bytes:
        """The record as it is sent."""
        return json.dumps(self.as_json(), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Standing:
        """Read what another node wrote. Raises JobInvalid."""
        if len(raw) > STANDING_LIMIT:
            raise JobInvalid(f"a node's word on a job has at most {STANDING_LIMIT} bytes")
        try:
            return _standing(load(raw))
        except Malformed as error:
            raise JobInvalid(f"not a node's word on a job: {error}") from None


def _standing(members: Mapping[str, object]) -> Standing:
    stage, node = text(members, "state"), text(members, "node")
    if stage not in STAGES:
        raise Malformed(f"state is {stage[:40]!r}")
    if not node.isprintable() or not 0 < len(node) <= NODE_LIMIT:
        raise Malformed("node is not the name of a node")
    seconds = members.get("seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise Malformed("seconds is not a number")
    return Standing(
        job=text(members, "job")[:40],
        node=node,
        revision=whole(members, "revision", 2**31),
        stage=cast("Stage", stage),
        here=whole(members, "bytes", SIZE_LIMIT),
        total=whole(members, "total", SIZE_LIMIT),
        blobs=whole(members, "blobs", 2**31),
        images=whole(members, "images", 2**31),
        error=line_of(text(members, "error")),
        seconds=float(seconds) if 0 <= seconds <= SECONDS_LIMIT else 0.0,
        at=seconds_of(text(members, "at"), "at"),
    )


def line_of(error: str) -> str:
    """An error as one line of bounded length."""
    line = " ".join(error[: 4 * ERROR_LIMIT].split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= ERROR_LIMIT else line[: ERROR_LIMIT - 3] + "..."


@dataclass(slots=True)
class Arrivals:
    """What the events of pulls come to: bytes here, of how many, in how many whole blobs."""

    _sizes: dict[str, int] = field(default_factory=dict)
    _here: dict[str, int] = field(default_factory=dict)
    _whole: set[str] = field(default_factory=set)

    def take(self, event: Mapping[str, object]) -> None:
        """Note an event of a pull; those of other kinds say nothing."""
        digest, kind = str(event.get("digest")), event.get("event")
        if kind == "blob":
            self._sizes[digest] = _number(event.get("size"))
            if event.get("state") in ("held", "done"):
                self._here[digest] = self._sizes[digest]
                self._whole.add(digest)
        elif kind == "progress" and digest in self._sizes:
            self._here[digest] = min(_number(event.get("offset")), self._sizes[digest])

    @property
    def here(self) -> int:
        """Bytes that are here."""
        return sum(self._here.values())

    @property
    def total(self) -> int:
        """Bytes of all blobs that are known by now."""
        return sum(self._sizes.values())

    @property
    def blobs(self) -> int:
        """Blobs that are here whole."""
        return len(self._whole)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def latest(standings: Iterable[Standing]) -> dict[str, Standing]:
    """By node, the last word of each; an older revision's is older."""
    found: dict[str, Standing] = {}
    for each in standings:
        known = found.get(each.node)
        if known is None or (known.revision, known.at) <= (each.revision, each.at):
            found[each.node] = each
    return found


def summed(standings: Iterable[Standing], revision: int, targets: int) -> dict[str, object]:
    """What the nodes of a job come to; who has not said a word of this revision is waiting."""
    current = [each for each in standings if each.revision == revision]
    stages = Counter(each.stage for each in current)
    return {
        "all": max(targets, len(current)),
        "done": stages["done"],
        "failed": stages["failed"],
        "fetching": stages["fetching"],
        "cancelled": stages["cancelled"],
        "bytes": sum(each.here for each in current),
        "total": sum(each.total for each in current),
    }
