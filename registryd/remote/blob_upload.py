"""One blob on its way to a registry: how it goes out, and how it goes on when it was cut off.

It is one PUT; in chunks where the registry refuses one piece, where connections break on the way,
and where an earlier process was cut off. Invariants:
- a body can be opened again, so nothing is lost with a request;
- bytes that a registry says it has are not sent again, by this process or the next one; what was
  sent in two goes is sent once more from its beginning when its digest comes out wrong;
- a session that failed and cannot go on is given back, and how that goes does not matter.
"""

from __future__ import annotations

import logging
from functools import partial

from yarl import URL

from cache.content import Descriptor
from cache.errors import Fault
from registryd.oci.errors import (
    Denied,
    RangeInvalid,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unsupported,
    UploadInvalid,
    UploadUnknown,
)
from registryd.oci.reference import Reference
from registryd.ports import BodyOpener, TransportError, transient
from registryd.remote.exchange import Exchange
from registryd.remote.failures import NotPassing, TlsRefused, Untrusted
from registryd.remote.pacing import NotBefore
from registryd.remote.retry import Tries
from registryd.remote.sending import Upload
from registryd.remote.stretches import Stretches
from registryd.remote.upload_journal import Entry, Kept
from registryd.remote.upload_rules import chunk_size, rule_for
from registryd.remote.upload_sessions import Session, Sessions
from registryd.secrets import Secret

log = logging.getLogger(__name__)

#: "Too large", and the ways to say "not like this" to a blob in one piece.
REFUSES_WHOLE = frozenset({405, 411, 413, 501})
TOO_LARGE = 413
#: Broken connections after which a blob is tried in chunks: a proxy may cut what it finds too long.
BREAKS_BEFORE_CHUNKS = 2
#: Times that a registry may be somewhere else than we think, for one blob.
DETOURS_LIMIT = 16


class _WholeRefused(Fault):
    """Raised when a registry does not take a blob in one piece."""


class BlobUpload:
    """The upload of one blob; close it in the end."""

    def __init__(
        self,
        exchange: Exchange,
        repository: Reference,
        descriptor: Descriptor,
        open_body: BodyOpener,
        entry: Entry,
    ) -> None:
        self._exchange = exchange
        self._sessions = Sessions(exchange)
        self._repository = repository
        self._digest = descriptor.digest
        self._size = descriptor.size
        self._body = Stretches(open_body, descriptor.size)
        self._entry = entry
        self._rule = rule_for(exchange.registry)
        self._learned = exchange.endpoint.uploads
        self._session: Session | None = None
        #: Whether this blob goes in chunks, whatever others do.
        self._in_chunks = False
        #: Whether the session has bytes of an earlier go.
        self._continued = False
        self._detours = 0

    async def close(self) -> None:
        """Close the body."""
        await self._body.close()

    async def run(self, begun: Session | None) -> None:
        """Upload the blob; ``begun`` is a session that is there for it already.

        Raises as ``ports.Pusher.push_blob`` does.
        """
        self._session = await self._left_over() or begun
        tries = Tries()
        while True:
            try:
                await self._go()
                return await self._entry.forget()
            except _WholeRefused:
                self._learned.in_chunks = True
                await self._start_over()
            except (NotBefore, NotPassing, TlsRefused, Untrusted):
                raise
            except (TransportError, RegistryError) as error:
                tries = await self._next_try(error, tries)
                self._in_chunks |= tries.failures >= BREAKS_BEFORE_CHUNKS
            except Exception:
                await self._start_over()  # the source of the bytes has failed, not the registry
                raise

    async def _next_try(self, error: TransportError | RegistryError, tries: Tries) -> Tries:
        """Wait, and find out where to go on; raises the error when it is final."""
        status = error.status if isinstance(error, RegistryError) else None
        clear = isinstance(error, Unauthorized | Denied | RateLimited)
        if isinstance(error, UploadUnknown) or (self._continued and not clear):
            status = None
        pacing = self._exchange.transport.pacing
        next_try = await pacing.again(self._exchange.registry, tries, status)
        passing = transient(error)
        if next_try is None:
            if not (passing and self._entry.lasting):
                await self._start_over()
            raise error
        if not (passing and await self._recover()):
            await self._start_over()
        return next_try

    async def _left_over(self) -> Session | None:
        """The session that an earlier process has left, with the bytes that it has; None: anew."""
        kept = self._entry.kept
        if kept is None:
            return None
        # It was cut off once: what is sent from here on shall be lost in small pieces only.
        self._in_chunks = True
        self._session = Session(URL(kept.url.reveal(), encoded=True), kept.least, kept.reached)
        try:
            found = await self._recover()
        except (NotBefore, NotPassing, TlsRefused, Untrusted):
            raise
        except (TransportError, RegistryError):
            found = False
        if not found:
            await self._start_over()
        return self._session

    async def _recover(self) -> bool:
        """Find out how far the session is; False when there is nothing to go on with."""
        session = self._session
        if session is None or not self._rule.chunks:
            return False
        if self._rule.tells:
            try:
                session = await self._sessions.ask(self._repository, self._digest, session)
            except RegistryError:
                return False
        if not 0 < session.reached <= self._size:
            return False
        log.info("an upload goes on", extra={"digest": str(self._digest), "at": session.reached})
        self._session, self._continued = session, True
        return True

    async def _start_over(self) -> None:
        """Give the session back; the next one begins with the first byte."""
        session, self._session, self._continued = self._session, None, False
        await self._entry.forget()
        if session is not None:
            await self._sessions.give_back(self._repository, session)

    async def _go(self) -> None:
        """Send what the registry does not have."""
        if self._session is None:
            self._session = await self._sessions.begin(self._repository, self._digest)
        if self._session is None:
            return  # it has the blob
        await self._note()
        in_chunks = self._rule.chunks and (self._in_chunks or self._learned.in_chunks)
        if self._session.reached or in_chunks:
            await self._send_chunks()
            await self._finish(b"")
        else:
            await self._finish(Upload(partial(self._body.open, 0, self._size), self._size))

    async def _finish(self, body: bytes | Upload) -> None:
        session = self._session
        assert session is not None  # noqa: S101 (the caller has one)
        try:
            await self._sessions.finish(self._repository, self._digest, session, body)
        except RegistryError as error:
            refused = error.status in REFUSES_WHOLE or isinstance(error, Unsupported)
            if refused and isinstance(body, Upload) and self._rule.chunks:
                raise _WholeRefused(str(error)) from error
            raise

    async def _send_chunks(self) -> None:
        while (session := self._session) is not None and session.reached < self._size:
            start = session.reached
            most = chunk_size(self._rule, self._learned, session.least)
            size = min(most, self._size - start)
            chunk = Upload(partial(self._body.open, start, start + size), size)
            try:
                self._session = await self._sessions.patch(
                    self._repository, self._digest, session, chunk
                )
            except RangeInvalid as error:
                await self._detour(error, size)
                continue
            except RegistryError as error:
                if error.status != TOO_LARGE or not self._learned.refused_chunk(size):
                    raise
            await self._note()

    async def _detour(self, error: RangeInvalid, size: int) -> None:
        """416: the registry is somewhere else than we think, or finds the chunk too long."""
        before = self._session
        assert before is not None  # noqa: S101 (a chunk of it was refused)
        self._detours += 1
        if not self._rule.tells or self._detours > DETOURS_LIMIT:
            raise UploadInvalid(str(error), status=416, entries=error.entries) from error
        session = await self._sessions.ask(self._repository, self._digest, before)
        if session.reached > self._size:
            raise UploadInvalid(
                f"{error}: the registry has {session.reached} bytes of {self._size}", status=416
            )
        if session.reached == before.reached and not self._learned.refused_chunk(size):
            raise UploadInvalid(f"{error}: at byte {before.reached}", status=416) from error
        self._session = session
        await self._note()

    async def _note(self) -> None:
        """Write down where the upload is, for the next process."""
        session = self._session
        if session is not None:
            kept = Kept(Secret(str(session.url)), session.least, session.reached)
            await self._entry.keep(kept)
