"""HTTP as the rest of this room wants it: requests that are retried, redirected and explained.

Invariants:
- no cookies, no netrc, no environment, no decompression: what came is what was sent;
- a redirect is followed by hand, its URL untouched, and a login never leaves for another origin;
- who is on the public internet does not lead us into the private network;
- exceptions of the HTTP library, of sockets and of TLS end here as TransportError;
- a request is repeated only when it says that it may be, by the policy in ``retry``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
from yarl import URL

from registryd import __version__
from registryd.oci.errors import BadAnswer
from registryd.ports import Answered, TransportError
from registryd.remote.answer import Answer
from registryd.remote.failures import FOREIGN, NotPassing, TlsRefused, Untrusted, explain
from registryd.remote.hosts import SOCKET_BASE, may_carry_login, resolve_location, same_origin
from registryd.remote.pacing import Pacing
from registryd.remote.proxies import choose_proxy
from registryd.remote.realm import Lookup, check_target, look_up
from registryd.remote.retry import PASSING, Tries
from registryd.remote.sending import Sending, Upload
from registryd.remote.tls import TlsSetting, make_context
from registryd.secrets import Secret, redact_url

log = logging.getLogger(__name__)

#: RFC 9110 section 15.4 leaves the number to us; registries need two at most.
REDIRECT_LIMIT = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Those that may be followed by a request that is not a GET or HEAD, with method and body kept.
KEEPING_REDIRECTS = frozenset({307, 308})

#: Measured: less costs throughput by wake-ups, more by cache misses.
READ_BUFFER = 2**20
#: Long tokens and presigned URLs are longer than the 8190 bytes that are usual.
HEADER_LIMIT = 64 * 2**10
#: An idle connection is given up before the servers that we know of do (60 s and more).
KEEP_ALIVE = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``login`` is the Authorization header's value, for the first origin only, as
    ``own_headers`` are.

    ``repeatable``: sending it twice does no more than sending it once. ``patient`` False: there is
    somebody else to ask, so it is sent once and waits for nothing. ``registry``: whose answer it is
    counted as, "" for nobody's.
    """

    method: str
    url: URL
    headers: Mapping[str, str] = field(default_factory=dict)
    login: Secret | None = None
    body: bytes | Upload | None = field(default=None, repr=False)
    follow: bool = True
    repeatable: bool = True
    registry: str = ""
    own_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    patient: bool = True


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, and for the next byte on it."""

    connect: float = 10.0
    stall: float = 30.0


class Transport:
    """The connections of all registries that agree on TLS, proxies and limits."""

    def __init__(
        self,
        pacing: Pacing,
        *,
        tls: TlsSetting = TlsSetting(),  # noqa: B008 - frozen
        socket: Path | None = None,
        proxies: Mapping[str, str] | None = None,
        timeouts: Timeouts = Timeouts(),
        max_connections: int = 16,
        answered: Answered = lambda registry, status: None,
        lookup: Lookup = look_up,
    ) -> None:
        self.pacing = pacing
        self.lookup = lookup
        self._answered = answered
        self._tls = tls
        self._socket = socket
        self._proxies = dict(proxies or {})
        self._timeouts = timeouts
        self._max_connections = max_connections
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._web: aiohttp.ClientSession | None = None
        self._local: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        await self._stack.aclose()

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Answer]:
        """The answer to a request, whatever its status; its connection is given back on leaving.

        Raises TransportError when there is none, BadAnswer for a redirect that leads nowhere,
        Denied for one that must not be followed,
        RateLimited when the host must not be asked for longer than we are ready to wait.
        """
        answer = await self._persist(request)
        try:
            yield answer
        finally:
            answer.close()

    async def _persist(self, request: Request) -> Answer:
        tries = Tries()
        while True:
            status, retry_after, host = None, None, _host(request.url)
            try:
                answer = await self._counted(request)
            except (TlsRefused, Untrusted, NotPassing):
                raise
            except TransportError:
                next_try = await self._again(request, host, tries)
                if next_try is None:
                    raise
            else:
                if answer.status not in PASSING:
                    return answer
                status, retry_after = answer.status, answer.headers.get("Retry-After")
                next_try = await self._again(request, _host(answer.url), tries, status, retry_after)
                if next_try is None:
                    return answer
                await answer.drain()
            tries = next_try

    async def _counted(self, request: Request) -> Answer:
        """One try, whose end is told."""
        try:
            answer = await self._follow(request)
        except TransportError:
            if request.registry:
                self._answered(request.registry, None)
            raise
        if request.registry:
            self._answered(request.registry, answer.status)
        return answer

    async def _again(
        self,
        request: Request,
        host: str,
        tries: Tries,
        status: int | None = None,
        retry_after: str | None = None,
    ) -> Tries | None:
        if not request.repeatable or not request.patient:
            if status is not None:
                self.pacing.note(host, status, retry_after)
            return None
        return await self.pacing.again(host, tries, status, retry_after)

    async def _follow(self, request: Request) -> Answer:
        """The last answer of a chain of redirects."""
        start = request.url
        for _ in range(REDIRECT_LIMIT + 1):
            answer = await self._once(request)
            location = answer.headers.get("Location")
            if not self._leads_on(request, answer.status) or location is None:
                answer.strayed = not may_carry_login(start, answer.url)
                return answer
            await answer.drain()
            asker, request = request.url, _redirected(request, location)
            await check_target(asker, request.url, lookup=self.lookup)
        raise BadAnswer(f"{_host(start)} redirects without end ({REDIRECT_LIMIT} times)")

    @staticmethod
    def _leads_on(request: Request, status: int) -> bool:
        reads = request.method in ("GET", "HEAD")
        return request.follow and status in (REDIRECTS if reads else KEEPING_REDIRECTS)

    async def _once(self, request: Request) -> Answer:
        """One exchange on one connection."""
        url = request.url
        label = self._label(url)
        await self.pacing.gate(_host(url), request.registry, patient=request.patient)
        session = await self._session(url)
        headers = {"Accept-Encoding": "identity", **request.headers, **request.own_headers}
        if request.login is not None:
            headers["Authorization"] = request.login.reveal()
        sending = Sending(request.body, self._timeouts.stall)
        try:
            async with sending:
                response = await session.request(
                    request.method,
                    url,
                    headers=headers | sending.headers,
                    data=sending.content,
                    allow_redirects=False,
                    proxy=choose_proxy(url, self._proxies),
                )
        except FOREIGN as error:
            sending.raise_own_failure()
            raise explain(error, label, self._timeouts.stall, self._tls.places) from error
        log.debug(
            "%s %s: %d",
            request.method,
            redact_url(str(url)),
            response.status,
            extra={"host": label},
        )
        return Answer(response, url, label, self._timeouts.stall)

    def _label(self, url: URL) -> str:
        """Who is asked, for people to read."""
        if self._socket is not None and same_origin(url, SOCKET_BASE):
            return str(self._socket)
        return _host(url)

    async def _session(self, url: URL) -> aiohttp.ClientSession:
        """The session for this URL, made when it is first needed."""
        async with self._opening:
            if self._socket is not None and same_origin(url, SOCKET_BASE):
                if self._local is None:
                    self._local = await self._open(
                        aiohttp.UnixConnector(
                            path=str(self._socket),
                            limit=0,
                            limit_per_host=self._max_connections,
                            keepalive_timeout=KEEP_ALIVE,
                        )
                    )
                return self._local
            if self._web is None:
                context = await asyncio.to_thread(make_context, self._tls)
                self._web = await self._open(
                    aiohttp.TCPConnector(
                        ssl=context,
                        limit=0,
                        limit_per_host=self._max_connections,
                        keepalive_timeout=KEEP_ALIVE,
                    )
                )
            return self._web

    async def _open(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"registryd/{__version__}"},
            skip_auto_headers=("Content-Type",),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BUFFER,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self._timeouts.connect,
                sock_read=self._timeouts.stall,
            ),
        )
        return await self._stack.enter_async_context(session)


def _redirected(request: Request, location: str) -> Request:
    try:
        target = resolve_location(request.url, location)
    except ValueError:
        raise BadAnswer(f"{_host(request.url)} redirects to what is not a URL") from None
    keeps = may_carry_login(request.url, target)
    return replace(
        request,
        url=target,
        login=request.login if keeps else None,
        own_headers=request.own_headers if keeps else {},
    )


def _host(url: URL) -> str:
    """Host and port as people write them: the port only where it is not the scheme's own."""
    host = url.host_subcomponent or ""
    return host if url.is_default_port() else f"{host}:{url.port}"
