"""A cluster whose members find one another through NATS.

Subjects, all below ``registryd.CLUSTER`` (the name that the certificates have):
- ``beats``: every node tells all others that it is there (``presence``);
- ``has.ALGORITHM-HEX``: whoever holds this blob answers (``holders``).

Invariants:
- no call waits for NATS or fails for it: while it is away, members are those that were known;
- a member is one by its word alone: whether it is who it says is proven where bytes are asked for,
  by its certificate.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from cache.content import Digest
from registryd.cluster.beats import Kind
from registryd.cluster.beside import beside
from registryd.cluster.holders import Holders
from registryd.cluster.identity import Member
from registryd.cluster.members import Facts, Joined, Left, Members
from registryd.cluster.nats_connection import Message
from registryd.cluster.nats_link import NatsLink
from registryd.cluster.presence import Presence, Timing
from registryd.cluster_config import ClusterConfig
from registryd.cluster_ports import ClusterNode
from registryd.hostlist import split_port

_log = logging.getLogger(__name__)


class NatsCluster:
    """The Cluster of those who are heard over NATS."""

    kind: Final = "nats"

    def __init__(
        self,
        link: NatsLink,
        member: Member,
        me: ClusterNode,
        facts: Callable[[], Facts],
        timing: Timing,
    ) -> None:
        self.me: Final = me.name
        #: The connection, for whoever else speaks over NATS, below ``prefix``.
        self.link: Final = link
        self.prefix: Final = f"registryd.{member.cluster}"
        self._loop = asyncio.get_running_loop()
        self._facts = facts
        self._timing = timing
        self._members = Members(me.name)
        self.presence: Final = Presence(
            me,
            run=secrets.token_hex(4),
            members=self._members,
            now=self._loop.time(),
            timing=timing,
        )
        self._holders = Holders(link, self.prefix, me.name)
        #: When the next beat is due, and whether that is earlier than was thought.
        self._next = self._loop.time()
        self._sooner = asyncio.Event()
        link.subscribe(f"{self.prefix}.beats", self._hear)
        link.on_change(self._come, lambda: None)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: ClusterConfig,
        member: Member,
        facts: Callable[[], Facts],
        timing: Timing,
    ) -> AsyncIterator[NatsCluster]:
        """The cluster as this node comes to know it; when it ends, the others are told."""
        async with NatsLink.open(config, name=member.name) as link:
            cluster = cls(link, member, myself(config, member), facts, timing)
            try:
                async with beside(cluster._beat):
                    yield cluster
            finally:
                cluster._say(Kind.BYE)

    @property
    def connected(self) -> bool:
        """Whether NATS answers."""
        return self.link.connected

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Everyone who is heard, and this node."""
        return self.presence.nodes(self._facts(), self._loop.time())

    def find(self, name: str) -> ClusterNode | None:
        """A member by its name."""
        return self._members.find(name)

    def watch(self, joined: Joined, left: Left) -> None:
        """Tell of who is there, and from now on of who joins and leaves."""
        self._members.watch(joined, left)

    def holds(self, digest: Digest, *, size: int, whole: bool) -> None:
        """Tell those who ask that this node has a blob, or is receiving it."""
        self._holders.holds(digest, size=size, whole=whole)

    def lets_go(self, digest: Digest) -> None:
        """Tell it no more."""
        self._holders.lets_go(digest)

    async def holders(self, digest: Digest) -> tuple[tuple[str, bool], ...]:
        """Those members who say that they have it."""
        found = await self._holders.find(digest)
        return tuple(each for each in found if each[0] in self._members)

    # beats

    def _come(self) -> None:
        """NATS has come, or come back."""
        now = self._loop.time()
        self.presence.connected(now)
        self._say(Kind.HELLO)
        self._next = now + self.presence.pause(random.random())  # noqa: S311 - guards nothing

    def _hear(self, message: Message) -> None:
        now = self._loop.time()
        if self.presence.hear(message.content, now):
            answer = now + self.presence.answer_within(random.random())  # noqa: S311 - guards nothing
            if answer < self._next:
                self._next = answer
                self._sooner.set()

    def _say(self, kind: Kind) -> None:
        self.link.publish(f"{self.prefix}.beats", self.presence.beat(kind, self._facts()).encode())

    async def _beat(self) -> None:
        """Be heard, and look who is."""
        while True:
            try:
                self._due()
            except Exception:  # one that fails is not the last
                _log.exception("a beat failed")
            try:
                until = min(self._next, self._loop.time() + self._timing.beat / 2)
                async with asyncio.timeout_at(until):
                    await self._sooner.wait()
            except TimeoutError:
                pass
            self._sooner.clear()

    def _due(self) -> None:
        now = self._loop.time()
        if now >= self._next:
            self._next = now + self.presence.pause(random.random())  # noqa: S311 - guards nothing
            self._say(Kind.BEAT)
        self.presence.look(now)


def myself(config: ClusterConfig, member: Member) -> ClusterNode:
    """This node as the others see it: under which name, and where they dial it."""
    host, port = split_port(config.address) if config.address else (member.name, None)
    shown = f"[{host}]" if ":" in host else host
    port = port if port is not None else split_port(config.listen)[1]
    return ClusterNode(member.name, f"https://{shown}:{port}", config.zone)
