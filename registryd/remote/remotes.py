"""The registries that this process may talk to, each with its connections, tokens and logins.

Invariants:
- a registry that the configuration does not allow, or calls offline, is never dialled;
- registries that agree on TLS and limits share a session; tokens and waits are shared by all;
- the number of clients that are kept is bounded: they own nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from registryd.config import RegistryConfig, TransferConfig
from registryd.oci.errors import Denied
from registryd.ports import Answered, Remote, Warned
from registryd.remote.authority import Authority
from registryd.remote.client import RegistryClient
from registryd.remote.clock import Clock
from registryd.remote.credentials import CredentialFiles
from registryd.remote.exchange import Exchange
from registryd.remote.hosts import Endpoint, find_endpoint
from registryd.remote.logins import Logins
from registryd.remote.offline import SilentRegistry
from registryd.remote.pacing import Pacing
from registryd.remote.realm import Lookup, look_up
from registryd.remote.retry import RetryPolicy
from registryd.remote.tls import TlsSetting
from registryd.remote.tokens import TokenCache
from registryd.remote.transport import Timeouts, Transport
from registryd.remote.upload_journal import UploadJournal
from registryd.secrets import Login

log = logging.getLogger(__name__)

#: The node's own registry: its images are here and nowhere else.
OWN_REGISTRY = "localhost"
#: Clients kept; on a shared node each user's login has its own.
KEPT = 512

_Session = tuple[TlsSetting, Path | None, int]


class RegistryRemotes:
    """ports.Remotes. Make it by ``open``."""

    def __init__(
        self,
        *,
        registries: Mapping[str, RegistryConfig],
        transfer: TransferConfig,
        allow: Sequence[str],
        credentials: CredentialFiles | None,
        proxies: Mapping[str, str],
        clock: Clock,
        lookup: Lookup,
        answered: Answered,
        journal: UploadJournal | None,
        warned: Warned,
    ) -> None:
        self._registries = registries
        self._timeouts = Timeouts(transfer.connect_timeout, transfer.stall_timeout)
        self._allow = tuple(allow)
        self._credentials = credentials
        self._proxies = proxies
        self._clock = clock
        self._lookup = lookup
        self._answered = answered
        self._journal = journal
        self._warned = warned
        self._pacing = Pacing(RetryPolicy(attempts=transfer.attempts), clock)
        self._tokens = TokenCache(clock)
        self._endpoints: dict[str, Endpoint] = {}
        self._transports: dict[_Session, Transport] = {}
        self._clients: OrderedDict[tuple[str, Login | None, bool], Remote] = OrderedDict()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        registries: Mapping[str, RegistryConfig],
        transfer: TransferConfig,
        allow: Sequence[str],
        credentials: CredentialFiles | None,
        proxies: Mapping[str, str],
        clock: Clock = Clock(),  # noqa: B008 - frozen
        lookup: Lookup = look_up,
        answered: Answered = lambda registry, status: None,
        journal: UploadJournal | None = None,
        warned: Warned = log.warning,
    ) -> AsyncIterator[RegistryRemotes]:
        """The remotes, whose connections end with the context.

        ``proxies`` has lower-case schemes as keys, and exceptions under ``no``; ``answered`` is
        told how each request has ended, ``warned`` what a person should know; uploads that are cut
        off go on by the ``journal``.
        """
        remotes = cls(
            registries=registries,
            transfer=transfer,
            allow=allow,
            credentials=credentials,
            proxies=proxies,
            clock=clock,
            lookup=lookup,
            answered=answered,
            journal=journal,
            warned=warned,
        )
        try:
            yield remotes
        finally:
            await asyncio.shield(remotes._close())

    def take_over(self, registries: Mapping[str, RegistryConfig], allow: Sequence[str]) -> None:
        """Go on with these; of a registry that is known, only ``offline`` may have changed."""
        self._registries, self._allow = registries, tuple(allow)
        self._clients.clear()

    def remote(self, registry: str, login: Login | None = None) -> Remote:
        """The client for a registry by its name in references; one that is offline sends nothing.

        Raises Denied for one that is not allowed, and for the node's own registry (unless it is
        configured where that is: a client reaches it through the daemon's socket).
        """
        if registry == OWN_REGISTRY and registry not in self._registries:
            raise Denied(
                "localhost is this node's own registry: it has no upstream to ask; "
                "push the image here first, or name another registry"
            )
        if not is_allowed(registry, self._allow):
            raise Denied(
                f"registry {registry} is not allowed here; add it to allow in [access] "
                f"(allowed: {', '.join(self._allow) or 'none'})"
            )
        # One that was found somewhere is not used as one is that was given.
        key = (registry, login, login is not None and login.stored)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = self._make(registry, login)
        self._clients.move_to_end(key)
        while len(self._clients) > KEPT:
            self._clients.popitem(last=False)
        return client

    def _make(self, registry: str, login: Login | None) -> Remote:
        config = self._registries.get(registry, RegistryConfig())
        if config.offline:
            return SilentRegistry.configured(registry)
        endpoint = self._endpoints.get(registry)
        if endpoint is None:
            endpoint = self._endpoints[registry] = find_endpoint(registry, config)
        transport = self._transport(config, endpoint)
        logins = Logins(
            registry, own=login, config=config, files=self._credentials, clock=self._clock
        )
        authority = Authority(registry, transport, self._tokens, logins, self._lookup)
        exchange = Exchange(endpoint, transport, authority, self._warned)
        return RegistryClient(exchange, self._journal)

    def _transport(self, config: RegistryConfig, endpoint: Endpoint) -> Transport:
        tls = TlsSetting.of(config)
        key = (tls, endpoint.socket, config.max_connections)
        if key not in self._transports:
            self._transports[key] = Transport(
                self._pacing,
                tls=tls,
                socket=endpoint.socket,
                proxies=self._proxies,
                timeouts=self._timeouts,
                max_connections=config.max_connections,
                answered=self._answered,
                lookup=self._lookup,
            )
        return self._transports[key]

    async def _close(self) -> None:
        async with AsyncExitStack() as stack:
            for transport in self._transports.values():
                stack.push_async_callback(transport.close)


def is_allowed(registry: str, patterns: Sequence[str]) -> bool:
    """Whether a registry matches one of: ``*``, its own name, ``*.`` and a domain it is below."""
    for pattern in patterns:
        if pattern in ("*", registry):
            return True
        if pattern.startswith("*.") and registry.endswith(pattern[1:]):
            return True
    return False
