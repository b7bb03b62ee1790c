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
from dataclasses import replace
from pathlib import Path

from registryd.config import RegistryConfig, TransferConfig
from registryd.notices import Notices
from registryd.oci.errors import ConfigInvalid, Denied
from registryd.oci.reference import Reference
from registryd.ports import Answered, Remote, Warned
from registryd.remote.authority import Authority
from registryd.remote.breaker import Breakers
from registryd.remote.client import RegistryClient
from registryd.remote.clock import Clock
from registryd.remote.course import (
    ALL,
    HOME,
    PUSH,
    TRUSTING,
    Course,
    Place,
    decides,
    own_course,
    proxies_for,
)
from registryd.remote.credentials import CredentialFiles
from registryd.remote.exchange import Exchange
from registryd.remote.found_hosts import FoundHosts
from registryd.remote.hosts import Endpoint, endpoint_at, find_endpoint
from registryd.remote.logins import Logins
from registryd.remote.mirrored import Host, Hosts, MirroredExchange
from registryd.remote.offline import SilentRegistry
from registryd.remote.pacing import Pacing
from registryd.remote.realm import Lookup, look_up
from registryd.remote.retry import RetryPolicy
from registryd.remote.standing import Standing
from registryd.remote.tls import TlsSetting
from registryd.remote.tokens import TokenCache
from registryd.remote.transport import Timeouts, Transport
from registryd.remote.upload_journal import UploadJournal
from registryd.secrets import NOBODY, Login

log = logging.getLogger(__name__)

#: The node's own registry: its images are here and nowhere else.
OWN_REGISTRY = "localhost"
#: Why a caller is not let in by way of this node.
LETS_US_IN = (
    "{} lets this node in by its certificate, which opens it to the node's owner alone "
    "(share_login in the daemon's configuration opens it to all)"
)
#: Clients kept; on a shared node each user's login has its own.
KEPT = 512

_Session = tuple[TlsSetting, Path | None, int, float, tuple[tuple[str, str], ...]]


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
        one_user: bool,
        notices: Notices | None,
        found: FoundHosts,
    ) -> None:
        self._registries = registries
        self._transfer = transfer
        self._allow = tuple(allow)
        self._credentials = credentials
        self._proxies = proxies
        self._clock = clock
        self._lookup = lookup
        self._answered = answered
        self._journal = journal
        self._warned = warned
        self._one_user = one_user
        self._found = found
        self._pacing = Pacing(RetryPolicy(attempts=transfer.attempts), clock, notices)
        self._tokens = TokenCache(clock)
        self._breakers = Breakers(clock.monotonic)
        self._standings: dict[str, Standing] = {}
        self._endpoints: dict[tuple[str, Place | None], Endpoint] = {}
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
        one_user: bool = False,
        notices: Notices | None = None,
        found: FoundHosts = FoundHosts(),  # noqa: B008 - frozen
    ) -> AsyncIterator[RegistryRemotes]:
        """The remotes, whose connections end with the context.

        ``proxies`` has lower-case schemes as keys, and exceptions under ``no``; ``answered`` is
        told how each request has ended, ``warned`` what a person should know, ``notices`` what
        registries let us know beside their answers; uploads that are cut off go on by the
        ``journal``. ``one_user``: whoever calls is the user whose credentials these are.
        ``found``: what other programs' files say of hosts.
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
            one_user=one_user,
            notices=notices,
            found=found,
        )
        try:
            yield remotes
        finally:
            await asyncio.shield(remotes._close())

    def take_over(
        self,
        registries: Mapping[str, RegistryConfig],
        allow: Sequence[str],
        found: FoundHosts | None = None,
    ) -> None:
        """Go on with these (``found`` None: with what was found before).

        Of a registry that is known, what is kept of its connections stays.
        """
        self._registries, self._allow = registries, tuple(allow)
        self._found = self._found if found is None else found
        self._clients.clear()

    def remote(self, registry: str, login: Login | None = None) -> Remote:
        """The client for a registry by its name in references; one that is offline sends nothing.

        Raises ConfigInvalid where a user's command finds a file about hosts that is no good, and
        Denied for one that is not allowed, and for the node's own registry (unless it is
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

    def left_alone(self) -> list[tuple[str, float, str]]:
        """The mirrors that are not asked now: host, seconds until the next try, why."""
        return self._breakers.left_alone()

    def _make(self, registry: str, login: Login | None) -> Remote:
        config = self._registries.get(registry, RegistryConfig())
        if config.offline:
            return SilentRegistry.configured(registry)
        if self._one_user and self._found.problems and not decides(config):
            hint = "mend it, or leave it out with system_files = false in [hosts]"
            raise ConfigInvalid(f"{self._found.problems[0]}; {hint}")
        parts = self._parts(registry, config, login, None)
        closed = login is not None and not (self._one_user or config.share_login)
        others = config.mirrors or (self._found.says and not decides(config))
        if not others and not (closed and self._tls(registry, config, None).shows):
            return RegistryClient(Exchange(*parts), self._journal)
        kept: dict[Course, Hosts] = {}

        def hosts(repository: str) -> Hosts:
            course = self._course(registry, repository, config)
            if course not in kept:
                kept[course] = self._hosts(registry, config, login, course, closed=closed)
            return kept[course]

        exchange = MirroredExchange(
            *parts,
            hosts=hosts,
            breakers=self._breakers,
            standing=self._standings.setdefault(registry, Standing(self._clock.monotonic)),
        )
        return RegistryClient(exchange, self._journal)

    def knows_us(self, repository: Reference) -> bool:
        """Whether who takes pushes of a repository knows this node by the way there."""
        config = self._registries.get(repository.registry, RegistryConfig())
        course = self._course(repository.registry, repository.repository, config)
        takers = [each for each in course.mirrors if PUSH in each.serves]
        return self._admits_us(repository.registry, config, (*takers, course.primary)[0])

    def _course(self, registry: str, repository: str, config: RegistryConfig) -> Course:
        if decides(config):
            return own_course(config)
        return replace(self._found.course(registry, repository), fallback=config.fallback)

    def _hosts(
        self,
        registry: str,
        config: RegistryConfig,
        login: Login | None,
        course: Course,
        *,
        closed: bool,
    ) -> Hosts:
        """The hosts of a course, each with its connections and login.

        ``closed``: what a host gives to this node because it is this node proves nothing for who
        asks, so such hosts are left out.
        """

        def host(place: Place) -> Host:
            exchange = Exchange(*self._parts(registry, config, login, place))
            return Host(_name(place, exchange.endpoint), exchange, place.serves)

        place = course.primary
        primary = Exchange(*self._parts(registry, config, login, place))
        serves = ALL if place is None else place.serves | {HOME}
        shut_out = closed and self._admits_us(registry, config, place)
        mirrors = (
            each
            for each in course.mirrors
            if not (closed and self._admits_us(registry, config, each))
        )
        return Hosts(
            Host(registry, primary, serves, spare=False),
            tuple(map(host, mirrors)),
            course.fallback,
            course.blocked or (LETS_US_IN.format(registry) if shut_out else ""),
        )

    def _admits_us(self, registry: str, config: RegistryConfig, place: Place | None) -> bool:
        tls = self._tls(registry, config, place)
        return bool(tls.clients or tls.shows) or (place is not None and place.admits_us)

    def _tls(self, registry: str, config: RegistryConfig, place: Place | None) -> TlsSetting:
        """The TLS of a host: what was said of it, else what lies in certs.d under its name."""
        if place is None or (place.name == registry and place.tls == TRUSTING):
            tls, name = TlsSetting.of(config), registry
        else:
            tls, name = place.tls, place.name
        found = self._found.certificates_of(name)
        if found is None or tls.folders or tls.ca_files or tls.clients:
            return tls
        return replace(tls, folders=(found.folder,), shows=found.shows, state=found.state)

    def _parts(
        self, registry: str, config: RegistryConfig, login: Login | None, place: Place | None
    ) -> tuple[Endpoint, Transport, Authority, Warned]:
        """What an exchange with a registry, or with a place in its stead, is made of."""
        key = (registry, place)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            endpoint = self._endpoints[key] = (
                find_endpoint(registry, config) if place is None else endpoint_at(registry, place)
            )
        transport = self._transport(registry, config, endpoint, place)
        name = registry if place is None else place.name
        logins = Logins(
            name,
            own=login if name == registry else self._login_elsewhere(name, login),
            config=config if name == registry else RegistryConfig(),
            files=self._credentials,
            clock=self._clock,
        )
        authority = Authority(name, transport, self._tokens, logins, self._lookup)
        return endpoint, transport, authority, self._warned

    def _login_elsewhere(self, name: str, login: Login | None) -> Login | None:
        """What a mirror is shown: never the login that is meant for the registry itself.

        A caller's own login proves what the caller may read, so that nothing of the node's goes
        along with it; a command's caller is its user, whose files these are.
        """
        if not name or login == NOBODY:
            return NOBODY
        return None if login is None or self._one_user else NOBODY

    def _transport(
        self, registry: str, config: RegistryConfig, endpoint: Endpoint, place: Place | None
    ) -> Transport:
        transfer = self._transfer
        tls = self._tls(registry, config, place)
        patience = 0.0 if place is None else place.connect_timeout
        connect = min(patience or transfer.connect_timeout, transfer.connect_timeout)
        proxies = proxies_for(self._proxies, transfer.proxy, transfer.no_proxy, config.proxy)
        settled = tuple(sorted(proxies.items()))
        key = (tls, endpoint.socket, config.max_connections, connect, settled)
        if key not in self._transports:
            self._transports[key] = Transport(
                self._pacing,
                tls=tls,
                socket=endpoint.socket,
                proxies=proxies,
                timeouts=Timeouts(connect, transfer.stall_timeout),
                max_connections=config.max_connections,
                answered=self._answered,
                lookup=self._lookup,
            )
        return self._transports[key]

    async def _close(self) -> None:
        async with AsyncExitStack() as stack:
            for transport in self._transports.values():
                stack.push_async_callback(transport.close)


def _name(place: Place, endpoint: Endpoint) -> str:
    """A mirror's name for people."""
    return place.name or str(endpoint.socket)


def is_allowed(registry: str, patterns: Sequence[str]) -> bool:
    """Whether a registry matches one of: ``*``, its own name, ``*.`` and a domain it is below."""
    for pattern in patterns:
        if pattern in ("*", registry):
            return True
        if pattern.startswith("*.") and registry.endswith(pattern[1:]):
            return True
    return False
