"""What points to content in memory, and what is kept: links, pins, and what was made of what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from cache.content import Descriptor, Digest
from cache.pins import Pin


@dataclass
class Pointers:
    """What points to what: parent -> child -> its descriptor and the rule of the link."""

    links: dict[Digest, dict[Digest, tuple[Descriptor, str]]] = field(default_factory=dict)

    def add(self, parent: Digest, children: Iterable[Descriptor], rule: str) -> None:
        """Let a parent point to these too."""
        known = self.links.setdefault(parent, {})
        known.update({child.digest: (child, rule) for child in children})

    def of(self, parent: Digest, *, made: bool) -> list[Descriptor]:
        """What was made of a manifest, or what it points to."""
        links = self.links.get(parent, {}).values()
        return [child for child, rule in links if (rule == "made") == made]

    def reachable(self, roots: Iterable[Digest], *, made: bool = True) -> set[Digest]:
        """These and all below them."""
        found, waiting = set[Digest](), list(roots)
        while waiting:
            if (digest := waiting.pop()) not in found:
                found.add(digest)
                waiting += [child.digest for child in self.of(digest, made=False)]
                waiting += [child.digest for child in self.of(digest, made=True) if made]
        return found

    def whole(self, held: Collection[Digest]) -> set[Digest]:
        """Those that are here with all (or, by their rule, one) of what they need."""
        done = set[Digest]()
        while fresh := {d for d in held if d not in done and self._is_served(d, done)}:
            done |= fresh
        return done

    def _is_served(self, parent: Digest, done: set[Digest]) -> bool:
        links = [link for link in self.links.get(parent, {}).values() if link[1] != "made"]
        served = [child.digest in done for child, _ in links]
        return any(served) if any(rule == "any" for _, rule in links) else all(served)


class MemoryPins:
    """What somebody wants kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pins: list[Pin] = []

    def live(self) -> list[Pin]:
        """The pins that count now."""
        now = self._clock()
        return [pin for pin in self._pins if pin.expires is None or pin.expires > now]

    async def add(
        self, digest: Digest, *, name: str, owner: str = "", reference: str = "", ttl: float | None
    ) -> Pin:
        """Keep a digest for ``ttl`` seconds, None: until it is dropped; forget what ran out."""
        expires = None if ttl is None else self._clock() + ttl
        pin = Pin(owner, name, digest, reference, expires)
        same = owner, name, digest
        others = [p for p in self.live() if (p.owner, p.name, p.digest) != same]
        self._pins = [*others, pin]
        return pin

    async def of(self, digest: Digest) -> list[Pin]:
        """The pins that keep just this digest now."""
        return [pin for pin in self.live() if pin.digest == digest]

    async def drop(self, name: str, *, owner: str = "") -> list[Pin]:
        """Take an owner's pins of this name away; gives them."""
        gone = [pin for pin in self._pins if (pin.owner, pin.name) == (owner, name)]
        self._pins = [pin for pin in self._pins if pin not in gone]
        return gone


@dataclass(frozen=True)
class MemoryMade:
    """What was made of which manifest."""

    pointers: Pointers

    async def of(self, subject: Digest) -> list[Descriptor]:
        """What was made of it."""
        return self.pointers.of(subject, made=True)

    async def record(self, subject: Digest, made: Descriptor) -> None:
        """Keep the one as long as the other."""
        self.pointers.add(subject, [made], "made")
