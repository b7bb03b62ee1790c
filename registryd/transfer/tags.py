"""Tags: what a name means now, and what is given for it while its registry does not say.

Invariants:
- a tag is believed for its time to live, then its registry is asked, by HEAD; a pinned tag means
  its digest, and nobody is asked (the configuration pins, and jobs do for their time);
- what a registry does not confirm is given only while all of it is here and the repository's own:
  half an image helps nobody, and a runtime that is told no asks elsewhere;
- a registry that fails, limits, is away or offline does not take away what is held. A clear no
  does, except to those who have been let in already (401, 403), and where ``missing_tags`` says
  "serve" (404); whoever asks for a fresh answer is told every clear no;
- where a lower store has heard of a tag later than the cache, what it says is given;
- whatever is given in this way is said: by value, and in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from typing_extensions import override

from cache.content import Descriptor, Digest
from cache.errors import DiskFull
from cache.index import Name
from cache.store import BlobStore
from registryd.oci.errors import (
    Denied,
    ManifestUnknown,
    RateLimited,
    RegistryError,
    Unauthorized,
)
from registryd.oci.reference import Reference
from registryd.ports import Offline, Remote, TransportError
from registryd.transfer.coalesce import Coalesce
from registryd.transfer.lower import LowerName, Lowers
from registryd.transfer.tag_policy import TagPolicy
from registryd.units import format_duration

#: Seconds that a registry has to confirm a tag of which everything is here.
PATIENCE: Final = 10.0

Cause = Literal["rate_limited", "server_error", "unreachable", "refused", "missing", "offline"]

#: Causes that another try may find gone.
FAILURES: Final[frozenset[Cause]] = frozenset({"rate_limited", "server_error", "unreachable"})
#: What each cause says of a registry. No word of the registry's own is repeated to clients: it may
#: name the node's user.
_SAID: Final[dict[Cause, str]] = {
    "rate_limited": "wants no more requests for now",
    "server_error": "fails",
    "unreachable": "cannot be reached",
    "refused": "refuses access",
    "missing": "does not have it any more",
    "offline": "is offline by configuration",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stale:
    """Something held was given without its registry's word; ``age`` (seconds) is its last one's."""

    reference: Reference
    cause: Cause
    age: float
    #: When it last was said, Unix seconds.
    checked: float = 0.0
    #: The lower store that says what it means; "" where the cache does.
    lower: str = ""

    @override
    def __str__(self) -> str:
        """One line for people, without a secret."""
        ago = format_duration(float(round(max(self.age, 0.0))))
        return (
            f"{self.reference.registry} {_SAID[self.cause]}:"
            f" {self.reference} is given as it was {ago} ago"
            + (f", from {self.lower}" if self.lower else "")
        )


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reference means; ``answered`` says that its registry has just said so."""

    descriptor: Descriptor
    stale: Stale | None = None
    answered: bool = False


def cause_of(error: TransportError | RegistryError) -> Cause | None:
    """Why a registry gave no answer; None for what may not be passed over."""
    if isinstance(error, Offline):
        return "offline"
    if isinstance(error, TransportError):
        return "unreachable"
    if isinstance(error, RateLimited):
        return "rate_limited"
    if error.status >= 500:
        return "server_error"
    # Without a status it is a rule of our own that says no.
    if error.status in (401, 403) or (error.status and isinstance(error, Unauthorized | Denied)):
        return "refused"
    return "missing" if error.status == 404 else None


def _latest(known: Name | None, below: LowerName | None) -> Name | LowerName | None:
    """Whichever a registry has confirmed last; what is here already where that is the same."""
    if known is None or below is None:
        return known or below
    return below if below.checked > known.checked else known


class Tags:
    """What names mean on this node."""

    def __init__(
        self,
        store: BlobStore,
        policy: TagPolicy,
        *,
        clock: Callable[[], float],
        patience: float = PATIENCE,
        lowers: Lowers | None = None,
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._patience = patience
        self._lowers = lowers or Lowers()
        self._asking: Coalesce[Descriptor] = Coalesce()

    def digest(self, reference: Reference) -> Digest | None:
        """The digest that a reference stands for without a question: its own, or its pin."""
        return reference.digest or self._policy.pin(reference, self._clock())

    async def resolve(
        self, remote: Remote | None, reference: Reference, *, fresh: bool = False
    ) -> Meaning:
        """What a reference means now; ``fresh`` asks its registry whatever is remembered.

        ``remote`` None means the node's own registry. Raises ManifestUnknown, and what the Remote
        raises where nothing may be given in its place.
        """
        known = None if reference.digest else await self._store.resolve(str(reference))
        if remote is None and known is not None:
            return Meaning(known.descriptor)
        digest = self.digest(reference) if remote is not None else reference.digest
        if digest is not None:
            return await self._resolve_digest(remote, reference, digest)
        if remote is None:
            raise ManifestUnknown(f"{reference} is not in this registry", status=404)
        age = self._clock() - known.checked if known else 0.0
        if known and not fresh and 0 <= age < self._policy.ttl(reference):
            return Meaning(known.descriptor)
        try:
            return Meaning(await self._ask(remote, reference, known, fresh), answered=True)
        except (TransportError, RegistryError) as error:
            return await self.instead(reference, error, fresh=fresh)

    async def upstream(self, remote: Remote, reference: Reference) -> Meaning:
        """What a reference means to its registry now, whatever jobs have pinned it to here.

        A pin of the configuration counts. Raises as ``resolve`` with ``fresh`` does.
        """
        digest = reference.digest or self._policy.pin(reference)
        if digest is not None:
            return await self._resolve_digest(remote, reference, digest)
        try:
            return Meaning(await self._ask(remote, reference, None, fresh=True), answered=True)
        except (TransportError, RegistryError) as error:
            return await self.instead(reference, error, fresh=True)

    async def _resolve_digest(
        self, remote: Remote | None, reference: Reference, digest: Digest
    ) -> Meaning:
        blob = self._store.find(digest)
        if blob and await self._store.is_member(reference.name, digest):
            media_type = await self._store.media_type(digest)
            if media_type:
                return Meaning(Descriptor(media_type, digest, blob.size))
        if remote is None:
            raise ManifestUnknown(f"{reference} is not in this registry", status=404)
        below = await self._lowers.document(reference.name, digest)
        if below is not None:
            return Meaning(below.descriptor)
        return Meaning(await remote.resolve(reference.with_digest(digest)), answered=True)

    async def _ask(
        self, remote: Remote, reference: Reference, known: Name | None, fresh: bool
    ) -> Descriptor:
        # A client that has no one else to ask is not left waiting for what we can give at once.
        limit = self._patience if known and known.complete and not fresh else None
        try:
            async with asyncio.timeout(limit):
                return await self._asking.once(
                    (id(remote), str(reference)), lambda: self._ask_once(remote, reference, known)
                )
        except TimeoutError:
            raise TransportError(
                f"{reference.registry} did not answer for {reference} in {self._patience:g} seconds"
            ) from None

    async def _ask_once(
        self, remote: Remote, reference: Reference, known: Name | None
    ) -> Descriptor:
        found = await remote.resolve(reference)
        if known and known.descriptor.digest == found.digest:
            with suppress(DiskFull):  # then it is asked again
                await self._store.checked(known)
        return found

    async def instead(
        self, reference: Reference, error: TransportError | RegistryError, *, fresh: bool = False
    ) -> Meaning:
        """What is held of a tag in place of its registry's answer. Raises ``error`` where that
        is what has to be told."""
        cause = cause_of(error)
        if cause is None or not self._may_pass_over(cause, reference, fresh):
            raise error
        known = await self._store.resolve(str(reference))
        if known is not None and not await self.whole(reference.name, known.descriptor):
            known = None
        # A store is no reason to go on giving what a registry refuses.
        below = None if cause == "refused" else await self._lowers.named(reference)
        given = _latest(known, below)
        if given is None:
            raise error
        lower = "" if given is known or below is None else below.store
        stale = Stale(reference, cause, self._clock() - given.checked, given.checked, lower)
        _log.warning(
            "given without its registry's word: ref=%s cause=%s age=%.0f error=%s",
            reference, cause, stale.age, error,
        )  # fmt: skip
        return Meaning(given.descriptor, stale)

    def _may_pass_over(self, cause: Cause, reference: Reference, fresh: bool) -> bool:
        if cause == "missing":
            return not fresh and self._policy.serves_missing(reference)
        return cause != "refused" or not fresh

    async def whole(self, repository: str, root: Descriptor) -> bool:
        """Whether content is here with all that it needs, proven to be the repository's own."""
        if not await self._store.is_complete(root):
            return False
        closure = await self._store.closure(root.digest)
        return all([await self._store.is_member(repository, digest) for digest in closure])

    async def is_doubtful(self, reference: Reference) -> bool:
        """Whether a tag is remembered of which not everything is here."""
        known = None if reference.digest else await self._store.resolve(str(reference))
        return known is not None and not await self.whole(reference.name, known.descriptor)

    async def prove(self, remote: Remote, reference: Reference) -> None:
        """Ask for a reference as proof that this login may read its repository.

        A tag that is given though its registry has none any more proves nothing, so that the list
        of tags has to. Raises as Remote.resolve does.
        """
        digest = self.digest(reference)
        try:
            await remote.resolve(reference.with_digest(digest) if digest else reference)
        except RegistryError as error:
            if cause_of(error) != "missing" or not self._policy.serves_missing(reference):
                raise
            if await self._store.resolve(str(reference)) is None:
                raise
            await remote.tags(reference)
