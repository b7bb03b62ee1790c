"""One connection to one server of NATS, from its login to its end. It is never mended.

Invariants:
- nothing of nats-py's errors leaves this module: NatsAway says in a line what is wrong;
- to a ``tls://`` server nothing is said before TLS has proven who it is;
- no subscription has a task: what arrives is given to its taker within the reading of the socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from typing_extensions import override

from registryd.cluster.errors import NatsAway
from registryd.cluster.nats_login import NatsLogin

PORT: Final = 4222
#: Seconds for each step of a login, and for all of them.
STEP: Final = 2
LOGIN: Final = 6.0
#: Seconds in which a server answers a ping, and in which a connection has taken its leave.
PONG: Final = 5
LEAVE: Final = 2.0
#: nats-py's own pings are too rare to be of use: ``alive`` asks.
_NEVER: Final = 1 << 20
#: The status of the answer that nobody has subscribed to what was asked.
_NOBODY: Final = "503"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A server by its URL; ``tls_name`` is whose certificate it shows, where the URL has none."""

    url: str
    tls_name: str = ""

    @property
    def name(self) -> str:
        """HOST:PORT."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{parts.port or PORT}"

    @property
    def over_tls(self) -> bool:
        """Whether it is spoken to over TLS or not at all."""
        return urlsplit(self.url).scheme == "tls"


@dataclass(frozen=True, slots=True)
class Message:
    """What has arrived; ``nobody`` where it says that nobody listens to what was asked."""

    subject: str
    content: bytes
    reply: str = ""
    nobody: bool = False


Taker = Callable[[Message], None]


class _Direct(asyncio.Future[Msg]):
    """What nats-py takes for the future of a request, and gives each message to at once."""

    def __init__(self, take: Taker) -> None:
        super().__init__()
        self._take = take

    @override
    def set_result(self, message: Msg, /) -> None:
        status = message.headers.get("Status") if message.headers else None
        try:
            self._take(Message(message.subject, message.data, message.reply, status == _NOBODY))
        except Exception:  # else it would end the reading of the socket
            _log.exception("a message of NATS was not taken: subject=%s", message.subject)


class _Client(Client):
    """nats-py follows the server's word on whether there is TLS; this one does not."""

    def __init__(self, *, over_tls: bool) -> None:
        super().__init__()
        self._over_tls = over_tls

    @override
    def _connect_command(self) -> bytes:
        if self._over_tls and not self._server_info.get("tls_required"):
            raise errors.SecureConnWantedError
        return super()._connect_command()


class Connection:
    """A connection that is logged in; every method raises NatsAway when it has ended."""

    def __init__(self, client: Client, server: Server, ended: asyncio.Event) -> None:
        self._client = client
        self._ended = ended
        self.server = server

    @property
    def ended(self) -> bool:
        """Whether the server has gone, as far as it is known without asking."""
        return self._ended.is_set()

    def known_servers(self) -> tuple[Server, ...]:
        """The other servers that this one has named."""
        scheme = urlsplit(self.server.url).scheme
        host = self.server.tls_name or urlsplit(self.server.url).hostname or ""
        return tuple(
            Server(f"{scheme}://{each.netloc}", host) for each in self._client.discovered_servers
        )

    async def publish(self, subject: str, content: bytes, reply: str) -> None:
        """Send a message; one that the server would not take is dropped."""
        with _faults():
            try:
                await self._client.publish(subject, content, reply)
            except (errors.MaxPayloadError, errors.BadSubjectError) as error:
                _log.error("NATS %s takes no such message: %s", self.server.name, error)

    async def subscribe(self, subject: str, queue: str, take: Taker) -> Subscription:
        """Be given what is sent to this subject; with a queue, only what falls to us of it."""
        with _faults():
            return await self._client.subscribe(subject, queue, future=_Direct(take))

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Be given no more."""
        with _faults():
            await subscription.unsubscribe()

    async def alive(self, within: float = PONG) -> None:
        """Have an answer from the server, after all that was sent before."""
        with _faults():
            await self._client.rtt(within)  # type: ignore[arg-type] # any number will do

    def jetstream(self) -> JetStreamContext:
        """Streams over this connection; its errors are nats-py's."""
        return self._client.jetstream()


@asynccontextmanager
async def connected(
    server: Server,
    login: NatsLogin,
    *,
    name: str,
    ended: Callable[[], None],
    refused: Callable[[str], None],
) -> AsyncIterator[Connection]:
    """A connection that says it is of ``name``; ``ended`` is called when the server has gone.

    ``refused`` is told what the server does not let us do. Raises NatsAway.
    """
    client = _Client(over_tls=server.over_tls)
    over, causes = asyncio.Event(), list[Exception]()

    async def err(error: Exception) -> None:
        if client.is_connected and "permissions violation" in str(error).lower():
            refused(_words(error))
        else:
            causes[:] = [error]

    async def close() -> None:
        over.set()
        ended()

    try:
        with _faults(causes):
            async with asyncio.timeout(LOGIN):
                await client.connect(
                    [server.url],
                    name=name,
                    error_cb=err,
                    closed_cb=close,
                    **_options(server, login),
                )
        yield Connection(client, server, over)
        why = causes[0] if causes else client.last_error
        if over.is_set() and why is not None:
            raise NatsAway(_words(why))
    finally:
        await asyncio.shield(_leave(client))


def _options(server: Server, login: NatsLogin) -> dict[str, Any]:
    """How nats-py connects once, to one server, and gives up."""
    shown: dict[str, Any] = {}
    if login.user:
        shown = {"user": login.user, "password": login.password.reveal}
    if login.key is not None:
        jwt = login.jwt.reveal().encode()
        shown = {"user_jwt_cb": lambda: jwt, "signature_cb": login.signed}
    return {
        "allow_reconnect": False,
        "max_reconnect_attempts": 1,
        "reconnect_time_wait": 0,
        "connect_timeout": STEP,
        "ping_interval": _NEVER,
        "tls": login.tls,
        "tls_hostname": server.tls_name or None,
        **shown,
    }


async def _leave(client: Client) -> None:
    """Close what there is of a connection; a server that hangs is not waited for."""
    with suppress(Exception):
        async with asyncio.timeout(LEAVE):
            await client.close()


class _faults:
    """What nats-py and the system raise in here becomes NatsAway; ``causes`` knows better why."""

    def __init__(self, causes: list[Exception] | None = None) -> None:
        self._causes = causes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            known = isinstance(error, errors.NoServersError) and self._causes
            raise NatsAway(_words(self._causes[0] if known and self._causes else error)) from error


def _words(error: Exception) -> str:
    """What is wrong, in a few words on one line, without a secret."""
    text = " ".join(str(error).split()).removeprefix("nats: ").strip("'")
    lower = text.lower()
    if isinstance(error, errors.SecureConnWantedError):
        return "it speaks no TLS"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or text}"
    if "authorization violation" in lower or "authentication" in lower:
        return f"it refuses our login ({lower})"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, errors.StaleConnectionError | errors.ConnectionClosedError):
        return "it has ended the connection"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()  # asyncio's own words are longer
    return text or type(error).__name__
