"""A job: which images nodes bring ahead of their use, on which nodes, and until when (pure).

Invariants:
- every image has a digest: what a job means does not change while nodes work on it. A new meaning
  (a wish kept fresh, a cancellation) is the same job with a higher ``revision``;
- a Job that exists is valid, whoever wrote its record: bounded, with references and hosts parsed;
- there is no credential in it: each node logs in with its own;
- records of this version are read by later ones, which may add members that this one ignores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Literal

from cache.content import Digest
from cache.errors import DigestInvalid
from registryd.cluster.names import answers_any
from registryd.hostlist import expand, fold
from registryd.jobs.errors import JobInvalid
from registryd.jobs.wishes import Wish, check_scope, wishes_of
from registryd.oci.errors import UsageError
from registryd.oci.fields import Malformed, entries, load, mapping, text, texts
from registryd.oci.reference import Reference

VERSION: Final = 1
#: A message of NATS has at most 1 MiB unless its server is set up for more.
RECORD_LIMIT: Final = 512 << 10
#: Images of one job: what a wish list of a large site comes to, and half of a record.
IMAGES_LIMIT: Final = 512
#: No job outlives this (seconds): pins must end, and streams must not grow.
LONGEST: Final = 30 * 86400.0
#: Later than any time that is meant, and still a year with four digits.
LAST_TIME: Final = 253_000_000_000.0

State = Literal["active", "cancelled"]

_ID = re.compile(r"[0-9a-f]{12}")
_NODE_LIMIT = 253
_RECIPE_LIMIT = 80


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a job: a name, the digest that it means, and which platforms are wanted.

    No platforms and not ``everything``: each node brings what is for itself. ``recipe``: by which
    the image is made one file too.
    """

    reference: Reference
    digest: Digest
    platforms: tuple[str, ...] = ()
    everything: bool = False
    recipe: str = ""

    def __post_init__(self) -> None:
        if self.reference.digest not in (None, self.digest):
            raise JobInvalid(f"{self.reference} cannot be {self.digest}")
        check_scope(self.platforms, self.everything)
        if not (self.recipe.isprintable() and len(self.recipe) <= _RECIPE_LIMIT):
            raise JobInvalid(f"{self.recipe[:40]!a} is no recipe of a conversion")

    @property
    def exact(self) -> Reference:
        """The image by its digest alone."""
        return self.reference.with_digest(self.digest)


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be brought. ``targets`` None means all nodes; times are seconds since 1970."""

    id: str
    images: tuple[Image, ...]
    targets: tuple[str, ...] | None
    node: str
    created: float
    until: float
    revision: int = 1
    state: State = "active"
    wishes: tuple[Wish, ...] = ()
    #: Of each wish, when its tags were looked up last.
    resolved: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise JobInvalid(f"{self.id[:40]!r} is not the id of a job (twelve hex digits)")
        if len(self.images) > IMAGES_LIMIT:
            raise JobInvalid(f"{len(self.images)} images are too many ({IMAGES_LIMIT} at most)")
        if not self.images and not self.wishes:
            raise JobInvalid("a job needs at least one image")
        if not 0 <= self.created <= self.until <= self.created + LONGEST:
            raise JobInvalid("a job ends after it began, and within 30 days")
        if self.revision < 1 or len(self.resolved) != len(self.wishes):
            raise JobInvalid("the revisions of a job count from one, its wishes with their times")

    @property
    def kind(self) -> str:
        """``images``, or ``wishes``: tags that are looked up again and again."""
        return "wishes" if self.wishes else "images"

    def is_for(self, node: str) -> bool:
        """Whether a node is meant, by its name or the first part of it."""
        return self.targets is None or answers_any(node, self.targets)

    def runs(self, now: float) -> bool:
        """Whether there is anything to be done for it."""
        return self.state == "active" and now < self.until

    def cancelled(self) -> Job:
        """The same job, ended."""
        return replace(self, state="cancelled", revision=self.revision + 1)

    def renewed(self, images: Iterable[Image], resolved: tuple[float, ...]) -> Job:
        """The same job with what its wishes mean now; as it was when they mean the same."""
        return replace(self, images=tuple(images), resolved=resolved, revision=self.revision + 1)

    def as_json(self) -> dict[str, object]:
        """The record, as JSON."""
        return {
            "version": VERSION,
            "id": self.id,
            "kind": self.kind,
            "revision": self.revision,
            "state": self.state,
            "images": [_image_json(image) for image in self.images],
            "nodes": None if self.targets is None else fold(self.targets),
            "asked_by": {"node": self.node, "principal": "owner"},
            "created": moment(self.created),
            "until": moment(self.until),
            "wishes": [wish.as_json() for wish in self.wishes],
            "resolved": [moment(each) for each in self.resolved],
        }

    def encode(self) -> bytes:
        """The record as it is sent. Raises JobInvalid when it is too large for one message."""
        raw = json.dumps(self.as_json(), separators=(",", ":")).encode()
        if len(raw) > RECORD_LIMIT:
            raise JobInvalid(
                f"the job's record has {len(raw)} bytes, {RECORD_LIMIT} are allowed: make two jobs"
            )
        return raw

    @classmethod
    def decode(cls, raw: bytes) -> Job:
        """Read what another node wrote. Raises JobInvalid."""
        if len(raw) > RECORD_LIMIT:
            raise JobInvalid(f"a job's record has at most {RECORD_LIMIT} bytes")
        try:
            return _job(load(raw))
        except JobInvalid:
            raise
        except (Malformed, UsageError, DigestInvalid) as error:
            raise JobInvalid(f"not the record of a job: {error}") from None


def moment(seconds: float) -> str:
    """A time in RFC 3339."""
    return datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds")


def seconds_of(written: str, where: str) -> float:
    """A time of a record. Raises Malformed."""
    try:
        found = datetime.fromisoformat(written[:40])
        seconds = found.timestamp() if found.tzinfo else -1.0
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds <= LAST_TIME:
        raise Malformed(f"{where} is not a time of RFC 3339: {written[:60]!r}")
    return seconds


def whole(members: Mapping[str, object], key: str, most: int) -> int:
    """A whole number from 0 up, 0 where it is missing. Raises Malformed."""
    value = members.get(key, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise Malformed(f"{key} is not a whole number from 0 to {most}")
    return value


def _image_json(image: Image) -> dict[str, object]:
    recipe = {"recipe": image.recipe} if image.recipe else {}
    return recipe | {
        "reference": str(image.reference),
        "digest": str(image.digest),
        "platforms": list(image.platforms),
        "all_platforms": image.everything,
    }


def _job(members: dict[str, object]) -> Job:
    version = members.get("version")
    if version != VERSION:
        raise JobInvalid(
            f"the record of a job has version {str(version)[:20]}, this node reads {VERSION}:"
            " bring the nodes to one version"
        )
    if len(given := entries(members, "images")) > IMAGES_LIMIT:
        raise JobInvalid(f"{len(given)} images are too many ({IMAGES_LIMIT} at most)")
    asker = mapping(members.get("asked_by"), "asked_by")
    state = text(members, "state")
    if state not in ("active", "cancelled"):
        raise Malformed(f"state is {state[:40]!r}")
    nodes = members.get("nodes")
    return Job(
        id=text(members, "id"),
        images=tuple(_image(value, f"images[{at}]") for at, value in enumerate(given)),
        targets=None if nodes is None else expand(text(members, "nodes")),
        node=_node(asker),
        created=seconds_of(text(members, "created"), "created"),
        until=seconds_of(text(members, "until"), "until"),
        revision=whole(members, "revision", 2**31),
        state="active" if state == "active" else "cancelled",
        wishes=wishes_of(entries(members, "wishes")),
        resolved=tuple(seconds_of(each, "resolved") for each in texts(members, "resolved")),
    )


def _node(asker: Mapping[str, object]) -> str:
    name = text(asker, "node", "asked_by.")
    if not name.isprintable() or len(name) > _NODE_LIMIT:
        raise Malformed("asked_by.node is not the name of a node")
    return name


def _image(value: object, where: str) -> Image:
    members = mapping(value, where)
    everything = members.get("all_platforms", False)
    if not isinstance(everything, bool):
        raise Malformed(f"{where}.all_platforms is neither true nor false")
    return Image(
        Reference.parse(text(members, "reference", f"{where}."), default_tag=None),
        Digest.parse(text(members, "digest", f"{where}.")),
        texts(members, "platforms", f"{where}."),
        everything,
        text(members, "recipe", f"{where}."),
    )
