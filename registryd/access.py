"""Who may read what: a caller sees a repository after proving that its registry lets them.

Invariants:
- ``localhost`` repositories are the node's own: every local user may read them;
- a proof is one request to the repository's registry, with the caller's own login or with none at
  all, and is remembered for a limited time only;
- what nobody in particular may read is public: it is granted to all, and its bytes may be fetched
  with this node's login; what was proven with a caller's login is granted to that caller alone;
- what this node itself is let in by (a login, a certificate, its user on another daemon's socket)
  proves nothing for others, unless its configuration shares it;
- while a registry cannot be asked, what was public when it last could be asked stays public; once
  it has said no, it is not. So are the repositories of which a public lower store has images;
- the process's own user (a command without a daemon) needs no grant: the cache is theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cache.errors import DiskFull, Fault
from cache.store import BlobStore
from registryd.config import RegistryConfig
from registryd.counts import Counts
from registryd.oci.errors import Denied, NameUnknown, RegistryError, Unauthorized
from registryd.oci.reference import Reference
from registryd.ports import Remote, Remotes, TransportError, transient
from registryd.secrets import NOBODY, Login
from registryd.transfer.library import LOCALHOST as LOCALHOST  # it is part of these rules
from registryd.transfer.lower import Lowers

_log = logging.getLogger(__name__)

#: The grant that stands for everybody on this node.
EVERYBODY: Final = "*"
#: The same, by the node's own login; it counts only as long as the configuration shares that.
SHARED: Final = "*shared"

#: How the principal of a login begins, and how much of it the log shows: enough to tell a node's
#: users apart.
LOGIN: Final = "login:"
SHOWN: Final = len(LOGIN) + 8

Probe = Callable[[Remote], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``principal`` "" is the process's own user; otherwise e.g. ``uid:1000``."""

    principal: str = ""
    login: Login | None = None


#: The user this process runs as, with the logins it is configured with.
OWNER: Final = Caller()
#: Somebody who has shown nothing.
ANYBODY: Final = Caller("anonymous")


@dataclass(frozen=True, slots=True)
class Sharing:
    """What this node's own way into its registries means for others.

    ``shared`` are those whose login opens to all; ``closed`` those where the connection itself is
    the node's credential, so that nothing can be proven over it for anybody else; ``named`` are
    all where it is: whatever is shared for reading, nobody else writes over it.
    """

    shared: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()

    @classmethod
    def of(cls, registries: Mapping[str, RegistryConfig]) -> Sharing:
        """What the configuration says."""
        shared = frozenset(name for name, entry in registries.items() if entry.share_login)
        named = frozenset(
            name
            for name, entry in registries.items()
            if entry.client_cert is not None
            or entry.cert_dir is not None
            or entry.endpoint.startswith("unix:")
        )
        return cls(shared, named - shared, named)


class Access:
    """Decides, and remembers what was proven."""

    def __init__(
        self,
        store: BlobStore,
        remotes: Remotes,
        *,
        ttl: float,
        sharing: Sharing = Sharing(),
        for_others: bool = True,
        counts: Counts | None = None,
        lowers: Lowers | None = None,
    ) -> None:
        """``for_others`` False: a command's own node, which opens nothing to anybody else."""
        self._store = store
        self._remotes = remotes
        self._ttl = ttl
        self._sharing = sharing
        self._for_others = for_others
        self._counts = counts or Counts()
        self._lowers = lowers or Lowers()

    async def admit(
        self,
        caller: Caller,
        reference: Reference,
        probe: Probe | None = None,
        *,
        proves: bool = True,
    ) -> Remote | None:
        """The Remote to use for this caller, None for the node's own registry.

        ``probe`` is the request that proves access where no grant is held; by default the
        reference is resolved. Where it does not prove that content may be read (``proves`` False),
        it is not remembered. Raises what the probe raises, and Denied.
        """
        if reference.registry == LOCALHOST:
            return None
        if not caller.principal:
            return self._remotes.remote(reference.registry, caller.login)
        login = None if caller.login == NOBODY else caller.login
        remote = self._remotes.remote(reference.registry, login)
        if reference.registry in self._sharing.closed:
            raise Denied(
                f"{reference.registry} lets this node in by its certificate or socket, which opens"
                " it to the node's owner alone (share_login in the daemon's configuration opens it"
                " to all)"
            )
        if await self.may_read(caller.principal, reference.name):
            return remote
        prover, principal = self._proof(caller.principal, login, reference.registry)
        try:
            await (probe(prover) if probe else prover.resolve(reference))
        except (TransportError, RegistryError) as error:
            self._counts.proofs["unanswered" if transient(error) else "denied"] += 1
            open_once = await self._was_open(reference.name)
            if open_once and isinstance(error, Unauthorized | Denied | NameUnknown):
                await self._store.grants.revoke(reference.name, principal)
            if not transient(error):
                raise
            if not open_once and not await self._lowers.opens(reference.name):
                raise
            _log.warning("registry is away, giving what was public: ref=%s", reference)
            return remote
        self._counts.proofs["proven"] += 1
        if proves:
            with suppress(DiskFull):  # then it is asked again
                await self._store.grants.add(reference.name, principal, self._ttl)
        return remote

    def pusher(self, caller: Caller, reference: Reference) -> Remote | None:
        """The Remote that this caller pushes with, None for the node's own registry.

        Nobody writes in this node's name but its owner. Raises Denied.
        """
        registry = reference.registry
        if registry == LOCALHOST:
            return None
        if not caller.principal:
            return self._remotes.remote(registry, caller.login)
        remote = self._remotes.remote(registry, caller.login or NOBODY)
        if registry in self._sharing.named or self._remotes.knows_us(reference):
            raise Denied(
                f"{registry} knows this node by its certificate or socket, so that the node's"
                f" owner alone can push there by way of it: push to {registry} itself"
            )
        return remote

    def _proof(self, principal: str, login: Login | None, registry: str) -> tuple[Remote, str]:
        """The Remote that proves it, and for whom."""
        if login is not None:
            return self._remotes.remote(registry, login), principal
        if registry in self._sharing.shared:
            return self._remotes.remote(registry), SHARED
        return self._remotes.remote(registry, NOBODY), EVERYBODY

    async def may_read(self, principal: str, repository: str) -> bool:
        """Whether a repository (by its whole name) is open to a principal, as far as is known."""
        if not principal or repository.startswith(f"{LOCALHOST}/"):
            return True
        principals = (*self._all(repository), principal)
        return await self._store.grants.covers(repository, principals)

    async def readable(self, principal: str, repositories: Collection[str]) -> set[str]:
        """Those of these repositories that ``may_read`` lets a principal read, asked at once."""
        if not principal:
            return set(repositories)
        grants = self._store.grants
        own, shared = await grants.open_to((EVERYBODY, principal)), await grants.open_to((SHARED,))
        return {
            each
            for each in repositories
            if each in own
            or each.startswith(f"{LOCALHOST}/")
            or (each in shared and each.partition("/")[0] in self._sharing.shared)
        }

    async def _was_open(self, repository: str) -> bool:
        # Only what everybody could read: a private grant ends when it ends.
        return await self._store.grants.covers(repository, self._all(repository), expired=True)

    def _all(self, repository: str) -> tuple[str, ...]:
        """The principals that stand for everybody."""
        shared = repository.partition("/")[0] in self._sharing.shared
        return (EVERYBODY, SHARED) if shared else (EVERYBODY,)

    async def open_to_all(self, remote: Remote | None, reference: Reference) -> None:
        """Find out whether all may read what the owner has pulled.

        So that an image which was fetched ahead is given to others while its registry is away.
        """
        if remote is not None and self._for_others:
            with suppress(Fault):
                await self.admit(ANYBODY, reference)

    async def pushed(self, caller: Caller, reference: Reference) -> None:
        """Let a caller read what they have pushed through to its registry, if that lets them.

        That it took a push says nothing of reading, so it is asked.
        """
        if not caller.principal:
            await self.open_to_all(self._remotes.remote(reference.registry), reference)
        elif reference.registry != LOCALHOST:
            with suppress(Fault):
                await self.admit(caller, reference)
