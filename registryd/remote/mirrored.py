"""A registry that has mirrors: each call goes to the hosts that can answer it, in their order.

Invariants:
- whether the next host is asked is decided by the registry's fall-back policy alone;
- a host that still has one behind it is asked once and never waited for; the last one is asked with
  all the patience there is;
- what breaks off in the middle counts against the host that sent it, and goes on elsewhere;
- what goes to a whole URL goes to the host that gave it;
- a host that says nothing until nobody waits any more has failed: otherwise a client with little
  patience would find it first in line each time;
- what is to be changed is read where it is written: a mirror may have it as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from typing_extensions import override
from yarl import URL

from registryd.oci.errors import Denied, RegistryError
from registryd.oci.media_types import essence
from registryd.ports import TransportError, Warned
from registryd.remote.answer import Answer
from registryd.remote.authority import Asked, Authority
from registryd.remote.breaker import Breakers
from registryd.remote.course import HOME, PUSH, falls_on, wanted
from registryd.remote.exchange import Call, Exchange
from registryd.remote.hosts import Endpoint
from registryd.remote.retry import PASSING, TOO_MANY_REQUESTS
from registryd.remote.standing import Standing
from registryd.remote.transport import Transport
from registryd.secrets import Secret

log = logging.getLogger(__name__)

#: Answers to a Range that say nothing about the content: the host may give it whole.
RANGE_REFUSED = frozenset({400, 416, 501})
#: Seconds without an answer that say something of a host when its caller gives up.
SILENT = 1.0
#: Answers that say that a host is ill; one that wants fewer requests is not.
ILL = PASSING - {TOO_MANY_REQUESTS}


@dataclass(frozen=True, slots=True)
class Host:
    """A host with a name for people, and what it is asked for; ``spare``: it is a mirror."""

    name: str
    exchange: Exchange
    serves: frozenset[str]
    spare: bool = True


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts for one repository; ``mirrors`` in order, before ``primary``."""

    primary: Host
    mirrors: tuple[Host, ...] = ()
    fallback: str = "always"
    blocked: str = ""


class MirroredExchange(Exchange):
    """Requests to one registry by way of its hosts; what is not sent is the registry's own."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: Transport,
        authority: Authority,
        warned: Warned,
        *,
        hosts: Callable[[str], Hosts],
        breakers: Breakers,
        standing: Standing,
    ) -> None:
        """``hosts`` gives those of a repository."""
        super().__init__(endpoint, transport, authority, warned)
        self._hosts = hosts
        self._breakers = breakers
        self._standing = standing

    @override
    def asks(self, repository: str) -> Asked:
        return self._hosts(repository).primary.exchange.asks(repository)

    @override
    async def account(self, repository: str) -> str:
        return await self._hosts(repository).primary.exchange.account(repository)

    @override
    async def has_login(self, repository: str) -> bool:
        return await self._hosts(repository).primary.exchange.has_login(repository)

    @override
    async def pull_token(self, repository: str) -> Secret | None:
        """As of Exchange; none of a registry that is somewhere else: it says nothing elsewhere."""
        hosts = self._hosts(repository)
        own = hosts.primary.exchange
        if hosts.blocked or own.endpoint.renames:
            return None
        return await own.pull_token(repository)

    @override
    def distrust(self, target: str) -> bool:
        hosts = self._hosts(_repository(target))
        if hosts.fallback != "always":
            return False
        return self._standing.blame(target, (mirror.name for mirror in hosts.mirrors))

    @override
    @asynccontextmanager
    async def send(self, call: Call) -> AsyncIterator[Answer]:
        """As of Exchange. Raises Denied besides, where the registry is blocked."""
        hosts = self._hosts(call.repository)
        if hosts.blocked:
            raise Denied(f"{call.what}: {hosts.blocked}")
        async with AsyncExitStack() as stack:
            host, answer = await self._in_turn(call, hosts, stack)
            target = str(call.target)
            if call.method == "GET" and answer.status in (200, 206):
                self._standing.served(target, host.name)
            try:
                yield answer
            except TransportError as error:
                if answer.broken or answer.taken:
                    self._count(host, None, str(error))
                    self._standing.broke_off(target, host.name)
                raise

    async def _in_turn(
        self, call: Call, hosts: Hosts, stack: AsyncExitStack
    ) -> tuple[Host, Answer]:
        """The first answer that decides, with who gave it."""
        *line, last = self._line(call, hosts)
        passed: list[str] = []
        once = replace(call, patient=hosts.fallback != "always")
        for host in line:
            if once.patient or not host.spare or self._breakers.enter(host.name):
                async with AsyncExitStack() as one:
                    found = await self._try(once, host, hosts.fallback, one)
                    if isinstance(found, Answer):
                        await stack.enter_async_context(one.pop_all())
                        return host, found
            else:
                found = "left alone after failures"
            passed.append(f"{host.name}: {found}")
            log.info("%s: passing over %s: %s", self.registry, host.name, found)
        try:
            answer = await stack.enter_async_context(last.exchange.send(call))
        except (TransportError, RegistryError) as error:
            self._count(last, _status(error), str(error))
            if not passed:
                raise
            raise _with_others(error, passed) from error
        self._count(last, answer.status, f"status {answer.status}")
        return last, answer

    async def _try(
        self, call: Call, host: Host, fallback: str, stack: AsyncExitStack
    ) -> Answer | str:
        """The answer of a host if it decides, or why it does not. Raises what decides too."""
        clock = self.transport.pacing.clock
        began = clock.monotonic()
        try:
            answer = await stack.enter_async_context(host.exchange.send(call))
        except asyncio.CancelledError:
            if clock.monotonic() - began >= SILENT:
                self._count(host, None, "it gave no answer as long as anybody waited")
                self._standing.broke_off(str(call.target), host.name)
            raise
        except (TransportError, RegistryError) as error:
            status = _status(error)
            self._count(host, status, str(error))
            if not falls_on(fallback, status):
                raise
            return str(error)
        self._count(host, answer.status, f"status {answer.status}")
        why = _why_not(call, answer, fallback)
        if why:
            await answer.drain()
        return why or answer

    def _count(self, host: Host, status: int | None, why: str) -> None:
        """Let a mirror's breaker know: an answer is one, unless it says that the host is ill."""
        if not host.spare:
            return
        if status is None or status in ILL:
            self._breakers.failed(host.name, why)
        else:
            self._breakers.worked(host.name)

    def _line(self, call: Call, hosts: Hosts) -> list[Host]:
        """The hosts to ask, in order; never empty."""
        if call.home:
            return [hosts.primary]
        everyone = (*hosts.mirrors, hosts.primary)
        target = call.target
        if isinstance(target, URL):
            owners = [each for each in reversed(everyone) if each.exchange.endpoint.owns(target)]
            return owners[:1] or [hosts.primary]
        actions = frozenset(action for scope in call.scopes[:1] for action in scope.actions)
        want = PUSH if call.written else wanted(call.method, target, actions)
        able = [each for each in everyone if want in each.serves]
        if want in (PUSH, HOME):
            return able[:1] or [hosts.primary]
        if hosts.fallback != "always":
            return able or [hosts.primary]
        willing = [each for each in able if not each.spare or self._may_ask(target, each.name)]
        willing = willing or able or [hosts.primary]
        return sorted(willing, key=lambda each: self._standing.broke_at(target, each.name))

    def _may_ask(self, target: str, mirror: str) -> bool:
        return self._breakers.admits(mirror) and not self._standing.is_wrong(target, mirror)


def _why_not(call: Call, answer: Answer, fallback: str) -> str:
    """Why an answer does not decide; empty when it does."""
    status = answer.status
    if status == 200 and essence(answer.content_type) == "text/html":
        return "it answers with a web page" if fallback == "always" else ""
    if "Range" in call.headers and status in RANGE_REFUSED:
        return ""
    return f"status {status}" if falls_on(fallback, status) else ""


def _status(error: TransportError | RegistryError) -> int | None:
    """The status that an error came of; None where there was no answer of a registry."""
    return (error.status or None) if isinstance(error, RegistryError) else None


def _repository(target: str) -> str:
    """The repository that a path of the API speaks of."""
    return "/".join(target.split("/")[2:-2])


def _with_others(
    error: TransportError | RegistryError, passed: list[str]
) -> TransportError | RegistryError:
    """The last host's failure, with what became of those before it."""
    if not passed:
        return error
    text = f"{error} (before that: {'; '.join(passed)})"
    if isinstance(error, RegistryError):
        return type(error)(text, status=error.status, entries=error.entries)
    return type(error)(text)
