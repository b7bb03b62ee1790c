"""Who may read what: a caller sees a repository after proving that its registry lets them.

Invariants:
- ``localhost`` repositories are the node's own: every local user may read them;
- a proof is one request to the repository's registry with the caller's own login (or, without
  one, with what this node is configured with), and is remembered for a limited time only;
- what anybody gets without a login of their own is public on this node and granted to all; what
  was proven with a caller's login is granted to that caller alone;
- while a registry cannot be asked, what was public when it last could be asked stays public;
- the process's own user (a command without a daemon) needs no grant: the cache is theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from cache.errors import Fault
from cache.store import BlobStore
from registryd.oci.errors import RegistryError
from registryd.oci.reference import Reference
from registryd.ports import Remote, Remotes, TransportError, transient
from registryd.secrets import Login
from registryd.transfer.library import LOCALHOST as LOCALHOST  # it is part of these rules

_log = logging.getLogger(__name__)

#: The grant that stands for everybody on this node.
EVERYBODY = "*"

Probe = Callable[[Remote], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``principal`` "" is the process's own user; otherwise e.g. ``uid:1000``."""

    principal: str = ""
    login: Login | None = None


#: The user this process runs as, with the logins it is configured with.
OWNER = Caller()


class Access:
    """Decides, and remembers what was proven."""

    def __init__(
        self, store: BlobStore, remotes: Remotes, *, ttl: float, shared: bool = True
    ) -> None:
        """``shared`` False: a command's own node, whose configuration proves nothing for others."""
        self._store = store
        self._remotes = remotes
        self._ttl = ttl
        self._shared = shared

    async def admit(
        self, caller: Caller, reference: Reference, probe: Probe | None = None
    ) -> Remote | None:
        """The Remote to use for this caller, None for the node's own registry.

        ``probe`` is the request that proves access where no grant is held; by default the
        reference is resolved. Raises what the probe raises, and Denied.
        """
        if reference.registry == LOCALHOST:
            return None
        remote = self._remotes.remote(reference.registry, caller.login)
        if not caller.principal:
            return remote
        if await self._store.grants.covers(reference.name, (EVERYBODY, caller.principal)):
            return remote
        try:
            await (probe(remote) if probe else remote.resolve(reference))
        except (TransportError, RegistryError) as error:
            if not transient(error) or not await self._was_open(reference):
                raise
            _log.warning("registry is away, giving what was public: ref=%s", reference)
            return remote
        principal = caller.principal if caller.login else EVERYBODY
        await self._store.grants.add(reference.name, principal, self._ttl)
        return remote

    async def _was_open(self, reference: Reference) -> bool:
        # Only what everybody could read: a private grant ends when it ends.
        return await self._store.grants.covers(reference.name, (EVERYBODY,), expired=True)

    async def open_to_all(self, remote: Remote | None, reference: Reference) -> None:
        """Find out whether all may read what the owner has pulled without a login of their own.

        So that an image which was fetched ahead is given to others while its registry is away.
        """
        if remote is None or not self._shared:
            return
        if await self._store.grants.covers(reference.name, (EVERYBODY,)):
            return
        with suppress(Fault):
            await remote.resolve(reference)
            await self._store.grants.add(reference.name, EVERYBODY, self._ttl)
