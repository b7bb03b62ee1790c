"""Listing what was pushed with the referrers of its subject, where a registry does not do it.

Distribution specification 1.1, "Pushing Manifests with Subject", "Unavailable Referrers API".

Invariants:
- a registry that has the referrers API lists by itself: its tags are left alone;
- the tag that stands in for the list is read, changed and written; just before it is written, and
  after, it is read again, and where another writer has been there all of it is done anew;
- what others have put into the list stays, members that we do not know too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from cache.content import Digest
from registryd.oci.errors import RegistryError
from registryd.oci.manifest import Document
from registryd.oci.reference import Reference
from registryd.oci.referrers import entry_of, fallback_tag, with_entry
from registryd.remote.exchange import Exchange
from registryd.remote.referrers import (
    FetchManifest,
    Listing,
    fetch_tag,
    offers_api,
)

#: Times that a list is written anew because someone else wrote it meanwhile.
TRIES = 8

PushManifest = Callable[[Reference, Document], Awaitable[bool]]


class Subjects:
    """The lists of one registry."""

    def __init__(self, exchange: Exchange, fetch: FetchManifest, push: PushManifest) -> None:
        self._exchange = exchange
        self._fetch = fetch
        self._push = push
        #: Whether the registry has the API; None: nobody has asked yet.
        self._has_api: bool | None = None
        #: Who pushes several artifacts at once must not be their own rival.
        self._turns: WeakValueDictionary[tuple[str, Digest], asyncio.Lock] = WeakValueDictionary()

    async def note(self, repository: Reference, document: Document) -> None:
        """List a pushed manifest with the referrers of its subject.

        Raises RegistryError when others write the list all the time, ManifestInvalid when it is
        full, and what asking, fetching and pushing raise.
        """
        subject = document.subject
        if subject is None:
            return
        if self._has_api is None:
            wanted = Listing(repository, subject.digest, written=True)
            self._has_api = await offers_api(self._exchange, wanted)
        if self._has_api:
            return
        key = (repository.name, subject.digest)
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = asyncio.Lock()
        async with turn:
            await self._enter(repository, subject.digest, document)

    async def _enter(self, repository: Reference, subject: Digest, document: Document) -> None:
        tag = repository.bare().with_tag(fallback_tag(subject))
        entry = entry_of(document)
        for _ in range(TRIES):
            before = await fetch_tag(self._fetch, repository, subject)
            if before is not None and entry in before.entries:
                return
            after = with_entry(before, entry)
            now = await fetch_tag(self._fetch, repository, subject)
            if now != before:
                continue
            await self._push(tag, after)
            now = await fetch_tag(self._fetch, repository, subject)
            if now is not None and entry in now.entries:
                return
        raise RegistryError(
            f"{tag}: others write this list of referrers all the time; {document.digest} was"
            " pushed, but is not listed there (push it again)"
        )
