"""The link to NATS: it comes and goes, and what is said and heard over it does not mind.

Invariants:
- nobody waits for NATS: the link is there at once, connects in the background and goes on trying;
- no call raises for NATS being away: what is sent then is dropped, and the answer says so;
- a subscription holds until it is ended, over any number of connections; whoever is told of a
  connection can send at once, and hears what is answered;
- what is sent is sent in its order, subscriptions and messages alike;
- each change is one line of the log; no line has a secret.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from registryd.cluster.beside import beside
from registryd.cluster.errors import IdentityUnusable, NatsAway
from registryd.cluster.gathering import Gathering
from registryd.cluster.nats_connection import Connection, Message, Server, Taker, connected
from registryd.cluster.nats_login import NatsLogin
from registryd.cluster_config import ClusterConfig

#: Seconds after which a server that says nothing is asked whether it is there.
PING = 5.0
#: Seconds between two rounds of tries: doubled from the first to the last, and spread by chance.
FIRST_PAUSE, LAST_PAUSE = 0.25, 4.0
#: Seconds before the same trouble is logged again, in other words.
QUIET = 60.0
#: Seconds for the last messages of a node that ends.
FAREWELL = 1.0
#: Servers that others have named: more than a cluster of NATS has.
KNOWN_LIMIT = 32
#: Messages that wait to be sent; more of them mean that the server does not read.
OUTBOX_LIMIT = 1 << 16

_log = logging.getLogger(__name__)
_Act = Callable[[Connection], Awaitable[None]]


@dataclass(eq=False, slots=True)
class Subscribed:
    """A subject that is listened to, until ``end``."""

    subject: str
    queue: str
    take: Taker
    _link: NatsLink
    _live: Subscription | None = field(default=None, init=False)

    def end(self) -> None:
        """Listen no more; ending twice is ending."""
        self._link._end(self)

    async def _begin(self, connection: Connection) -> None:
        self._live = await connection.subscribe(self.subject, self.queue, self.take)

    async def _finish(self, connection: Connection) -> None:
        if self._live is not None:
            await connection.unsubscribe(self._live)


class NatsLink:
    """NATS, as far as it can be reached."""

    def __init__(self, config: ClusterConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._servers = [Server(url) for url in config.nats]
        self._named: list[Server] = []
        self._connection: Connection | None = None
        self._subscribed: dict[Subscribed, None] = {}
        self._outbox: deque[_Act] = deque()
        self._news = asyncio.Event()
        self._changes: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._told = ("", 0.0)
        self._asked: dict[str, Gathering[Message]] = {}
        self._inbox = f"_INBOX.{secrets.token_hex(8)}"
        self._questions = 0
        self.subscribe(f"{self._inbox}.*", self._answered)

    @classmethod
    @asynccontextmanager
    async def open(cls, config: ClusterConfig, *, name: str) -> AsyncIterator[NatsLink]:
        """The link of this node (NATS shows its ``name``); it connects in its own time.

        What was sent before the end is sent before the end.
        """
        link = cls(config, name)
        async with beside(link._keep):
            try:
                yield link
            finally:
                await asyncio.shield(link._farewell())

    @property
    def connected(self) -> bool:
        """Whether a server answers."""
        return self._connection is not None

    @property
    def server(self) -> str:
        """HOST:PORT of the server that answers, "" while none does."""
        return self._connection.server.name if self._connection is not None else ""

    def on_change(self, connected: Callable[[], None], gone: Callable[[], None]) -> None:
        """Call these whenever a connection has begun (also now, where there is one) or ended."""
        self._changes.append((connected, gone))
        if self.connected:
            connected()

    def subscribe(self, subject: str, take: Taker, *, queue: str = "") -> Subscribed:
        """Give what is sent to a subject to ``take``, from now on and over any connection.

        With a ``queue``, each message goes to one only of those who have named the same.
        ``take`` is called within the reading of the socket: it must be short, and not wait.
        """
        subscribed = Subscribed(subject, queue, take, self)
        self._subscribed[subscribed] = None
        if self.connected:
            self._do(subscribed._begin)
        return subscribed

    def _end(self, subscribed: Subscribed) -> None:
        if subscribed not in self._subscribed:
            return
        del self._subscribed[subscribed]
        if self.connected:
            self._do(subscribed._finish)

    def publish(self, subject: str, content: bytes = b"", *, reply: str = "") -> bool:
        """Send a message, and do not wait; False where it was dropped, as NATS is away."""
        if not self.connected or len(self._outbox) >= OUTBOX_LIMIT:
            return False
        self._do(lambda connection: connection.publish(subject, content, reply))
        return True

    async def request(self, subject: str, content: bytes = b"", *, within: float) -> Message | None:
        """The first answer to a message; None where nobody answers in time, or NATS is away."""
        answers = await self.gather(subject, content, most=1, within=within)
        return answers[0] if answers else None

    async def gather(
        self, subject: str, content: bytes = b"", *, most: int, within: float, after: float = 1.0
    ) -> list[Message]:
        """Up to ``most`` answers to a message, in the order of their coming.

        Of those that come within so many seconds; and once the first one has come, only of those
        that take ``after`` times as long. Empty at once where nobody listens or NATS is away.
        """
        self._questions += 1
        token = f"{self._questions:x}"
        gathering = self._asked[token] = Gathering[Message](most, within=within, after=after)
        try:
            if not self.publish(subject, content, reply=f"{self._inbox}.{token}"):
                return []
            return await gathering.all()
        finally:
            del self._asked[token]

    def _answered(self, message: Message) -> None:
        gathering = self._asked.get(message.subject.rpartition(".")[2])
        if gathering is not None and message.nobody:
            gathering.end()
        elif gathering is not None:
            gathering.add(message)

    def jetstream(self) -> JetStreamContext:
        """Streams over the connection that is there now, and end with it.

        Raises NatsAway; the context's own errors are nats-py's.
        """
        if self._connection is None:
            raise NatsAway("NATS is away")
        return self._connection.jetstream()

    # the connections, one after the other

    def _do(self, act: _Act) -> None:
        self._outbox.append(act)
        self._news.set()

    async def _keep(self) -> None:
        """Connect, and connect again."""
        failures = 0
        while True:
            reasons: dict[str, str] = {}
            for server in self._in_turn():
                if await self._session(server, reasons):
                    failures = 0
                    break
            else:
                self._say_away(reasons)
                failures += 1
            pause = min(FIRST_PAUSE * 2**failures, LAST_PAUSE)
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - guards nothing

    def _in_turn(self) -> Iterable[Server]:
        """Those of the configuration in any order, then those that others have named."""
        ours = random.sample(self._servers, len(self._servers))
        known = {server.name for server in ours}
        return [*ours, *(each for each in self._named if each.name not in known)]

    async def _session(self, server: Server, reasons: dict[str, str]) -> bool:
        """A connection from its begin to its end; False where there was none, and why."""
        began = False
        try:
            login = await asyncio.to_thread(NatsLogin.read, self._config)
            async with connected(
                server, login, name=self._name, ended=self._news.set, refused=self._refused
            ) as connection:
                began = True
                await self._work(connection)
        except (NatsAway, IdentityUnusable) as error:
            reasons[server.name] = str(error)
        except Exception as error:
            _log.exception("NATS %s: the connection failed", server.name)
            reasons[server.name] = type(error).__name__
        if began:
            _log.warning("NATS %s has gone: %s", server.name, reasons.get(server.name, "it ended"))
        return began

    async def _work(self, connection: Connection) -> None:
        """Send what is to be sent, for as long as the connection holds. Raises NatsAway."""
        self._named = [*connection.known_servers()][:KNOWN_LIMIT]
        self._outbox.clear()
        self._outbox.extend(subscribed._begin for subscribed in self._subscribed)
        self._connection = connection
        self._told = ("", 0.0)
        _log.info("NATS %s answers", connection.server.name)
        try:
            for begun, _ in tuple(self._changes):
                begun()
            while not connection.ended:
                await self._send(connection)
        finally:
            self._connection = None
            for _, gone in tuple(self._changes):
                gone()

    async def _send(self, connection: Connection) -> None:
        """Empty the outbox, then wait for news, or ask the server whether it is there."""
        while self._outbox:
            await self._outbox.popleft()(connection)
        self._news.clear()
        if connection.ended or self._outbox:
            return
        try:
            async with asyncio.timeout(PING):
                await self._news.wait()
        except TimeoutError:
            await connection.alive()

    async def _farewell(self) -> None:
        """Let the last messages go out."""
        connection = self._connection
        if connection is None:
            return
        gone = asyncio.Event()

        async def last(connection: Connection) -> None:
            try:
                await connection.alive(FAREWELL)
            finally:
                gone.set()

        self._do(last)
        try:
            async with asyncio.timeout(FAREWELL):
                await gone.wait()
        except TimeoutError:
            _log.info("NATS %s: the last messages may not have gone out", connection.server.name)

    # what the log says

    def _say_away(self, reasons: dict[str, str]) -> None:
        words = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
        now = asyncio.get_running_loop().time()
        told, when = self._told
        if words != told and (not told or now - when >= QUIET):
            _log.warning("NATS is away (%s): this node goes on without it, and tries again", words)
            self._told = (words, now)

    def _refused(self, words: str) -> None:
        _log.warning("NATS %s does not let this node do its work: %s", self.server, words)
