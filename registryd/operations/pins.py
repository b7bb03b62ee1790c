"""Pins: images that are kept until somebody says otherwise, or for a time.

Invariants:
- the owner pins what they like, by patterns too; a user only single images that they may read, for
  a time, so many at once;
- everybody ends their own pins and sees no others; the owner sees all;
- what is pinned is a digest: what the name meant here when it was pinned.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cache.content import Descriptor, Digest
from cache.errors import Pinned, PinNotFound
from cache.patterns import is_pattern, matcher
from cache.pins import Pin, Rule
from cache.store import BlobStore
from registryd.oci.errors import Denied, UsageError
from registryd.oci.media_types import OCTET_STREAM
from registryd.oci.reference import Reference
from registryd.operations.asking import Asking
from registryd.operations.holdings import moment
from registryd.operations.node import Node, Result
from registryd.secrets import Login
from registryd.units import format_duration, parse_duration
from registryd.user_quotas import charged

#: A user's pin ends by itself (seconds): who has left cannot fill the disk for ever.
USERS_LONGEST = 30 * 86400.0
#: Pins of one user at the same time: more than the jobs that one has on a node.
USERS_MOST = 256

#: A name that is chosen has no slash, a reference has: the two are never mistaken.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


class Pinning(Asking):
    """Pins. Every method raises Faults only."""

    _node: Node
    _store: BlobStore

    async def pin(
        self,
        reference: str,
        *,
        name: str | None = None,
        lasting: str | None = None,
        until: str | None = None,
        login: Login | None = None,
        principal: str = "",
    ) -> Result:
        """Keep what a reference means, by ``name`` (the reference itself unless given), for a time
        or ``until`` one (RFC 3339); or all that a pattern means, now and later.

        Raises UsageError, Denied, PatternInvalid, and what finding out its meaning raises.
        """
        ttl = _ttl(lasting, until, self._store.pins.now())
        if is_pattern(reference):
            return await self._pin_pattern(reference, name, ttl, principal)
        image = Reference.parse(reference)
        called = str(image) if name is None else _checked(name)
        if principal:
            ttl = _allowed(ttl)
        digest = await self._meaning(image, login, principal)
        if principal:
            await self._count(called, digest, principal)
            await self._store.room.quotas.check_pin(principal, digest)
        pins = self._store.pins
        made = await pins.add(digest, name=called, owner=principal, reference=str(image), ttl=ttl)
        return {**_shown(made), "held": await self._is_here(digest)}

    async def _is_here(self, digest: Digest) -> bool:
        """Whether the image is here, and not its manifest alone."""
        blob = self._store.find(digest)
        return blob is not None and await self._store.is_complete(
            Descriptor(await self._store.media_type(digest) or OCTET_STREAM, digest, blob.size)
        )

    async def _pin_pattern(
        self, pattern: str, name: str | None, ttl: float | None, principal: str
    ) -> Result:
        if principal:
            raise Denied(
                "only root and the daemon's own user pin by a pattern, as it keeps what others"
                " bring too: pin images by their names"
            )
        if name is not None:
            raise UsageError("a pattern is its own name: leave --as out")
        rule = await self._store.pins.add_rule(pattern, ttl=ttl)
        means = matcher([pattern])
        held = any(means(entry.name) for entry in await self._store.names())
        return {**_shown_rule(rule), "held": held}

    async def _meaning(self, image: Reference, login: Login | None, principal: str) -> Digest:
        """What it means here; its registry is asked only where nothing is held by that name.

        A user's digest has to be the repository's: of another's they learn nothing by it.
        """
        remote = await self._admit(image, login, principal)
        if image.digest is not None:
            if not principal:
                return image.digest
            # By its bytes: that a registry says to have it proves nothing of what is here.
            return (await self._node.library.document(remote, image)).digest
        held = await self._store.resolve(str(image))
        if held is not None and held.complete:
            return held.descriptor.digest
        return (await self._node.library.resolve(remote, image)).digest

    async def _count(self, name: str, digest: Digest, owner: str) -> None:
        """Raises Denied where this user has too many pins.

        Logins over TCP can be made up, so all who come by it are one user here.
        """
        by_tcp = not charged(owner)
        own = [
            pin
            for pin in await self._store.pins.all()
            if pin.owner == owner or (by_tcp and pin.owner and not charged(pin.owner))
        ]
        if len(own) < USERS_MOST or (owner, name, digest) in {_key(pin) for pin in own}:
            return
        whose = "those who ask over TCP have" if by_tcp else "you have"
        raise Denied(f"{whose} {len(own)} pins, at most {USERS_MOST} are kept (cache unpin)")

    async def unpin(
        self, reference: str | None = None, *, name: str | None = None, principal: str = ""
    ) -> Result:
        """End the caller's pins of a reference, or of a chosen name, or a pattern's.

        Raises UsageError, Denied, PinNotFound.
        """
        if (reference is None) == (name is None):
            raise UsageError("say which pin ends: by its REF or by its name, one of the two")
        if reference is not None and is_pattern(reference):
            return await self._unpin_pattern(reference, principal)
        called = _checked(name) if reference is None else str(Reference.parse(reference))
        gone = await self._store.pins.drop(called, owner=principal)
        if not gone:
            raise PinNotFound(f"nothing is pinned by {called} (registryctl cache pins lists them)")
        return {"unpinned": [_shown(pin) for pin in gone]}

    async def _unpin_pattern(self, pattern: str, principal: str) -> Result:
        if principal:
            raise Denied("only root and the daemon's own user end a pin by a pattern")
        gone = await self._store.pins.drop_rule(pattern)
        if gone is None and pattern in self._store.pins.always:
            raise UsageError(f"{pattern} is pinned by the configuration (cache.pins): end it there")
        if gone is None:
            raise PinNotFound(f"nothing is pinned by {pattern} (registryctl cache pins lists them)")
        return {"unpinned": [_shown_rule(gone)]}

    async def pins(self, *, principal: str = "") -> Result:
        """The caller's pins; to the owner, everybody's and all patterns."""
        every = await self._store.pins.all()
        rules = [] if principal else [_shown_rule(each) for each in await self._store.pins.rules()]
        return {"pins": [*rules, *(_shown(pin) for pin in every if principal in ("", pin.owner))]}

    async def _refuse_pinned(self, going: int, digest: Digest) -> None:
        """Raises Pinned where so many of its names go, none is left, and somebody wants it kept."""
        pins = await self._store.pins.of(digest)
        names = [name for name in await self._store.names() if name.descriptor.digest == digest]
        if len(names) > going:
            return
        for rule in await self._store.pins.rules():
            if any(map(matcher([rule.pattern]), (entry.name for entry in names))):
                where = "in the configuration" if rule.configured else "(registryctl cache pins)"
                raise Pinned(
                    f"{names[0].name} is pinned by the pattern {rule.pattern} {where}, so its last"
                    " name stays"
                )
        if pins:
            first = pins[0]
            more = f" and {len(pins) - 1} more" if len(pins) > 1 else ""
            end = f" until {moment(first.expires)}" if first.expires else ""
            whose = f" of {first.owner}" if first.owner else ""
            raise Pinned(
                f"{first.reference} is pinned by {first.name}{whose}{more}{end}, so its last name"
                " stays (registryctl cache unpin ends a pin)"
            )


def _key(pin: Pin) -> tuple[str, str, Digest]:
    return pin.owner, pin.name, pin.digest


def _checked(name: str | None) -> str:
    if name is None or not _NAME.fullmatch(name):
        raise UsageError(
            f"{(name or '')[:40]!r} is no name for a pin (letters, digits and ._:@-, at most 128)"
        )
    return name


def _ttl(lasting: str | None, until: str | None, now: float) -> float | None:
    """For how many seconds. Raises UsageError."""
    if until is None:
        return None if lasting is None else parse_duration(lasting)
    if lasting is not None:
        raise UsageError("say how long a pin lasts or until when, one of the two")
    try:
        when = datetime.fromisoformat(until)
    except ValueError:
        raise UsageError(
            f"{until[:40]!r} is no time: write 2030-01-31 or 2030-01-31T12:00Z"
        ) from None
    left = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now
    if left <= 0:
        raise UsageError(f"{until} is over: a pin ends later than now")
    return left


def _allowed(ttl: float | None) -> float:
    """How long a user's pin lasts. Raises Denied."""
    if ttl is not None and ttl > USERS_LONGEST:
        raise Denied(
            f"a user's pin lasts at most {format_duration(USERS_LONGEST)}; root and the daemon's"
            " own user pin for longer"
        )
    return USERS_LONGEST if ttl is None else ttl


def _shown(pin: Pin) -> dict[str, object]:
    return {
        "name": pin.name,
        "reference": pin.reference,
        "digest": str(pin.digest),
        "owner": pin.owner or "root",
        "expires": None if pin.expires is None else moment(pin.expires),
    }


def _shown_rule(rule: Rule) -> dict[str, object]:
    return {
        "name": rule.pattern,
        "reference": rule.pattern,
        "digest": None,
        "owner": "configuration" if rule.configured else "root",
        "expires": None if rule.expires is None else moment(rule.expires),
    }
