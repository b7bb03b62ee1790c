"""Other nodes as a swarm sees them: each does with a request what its script says next."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cache.content import Digest
from registryd.cluster.errors import PeerCut, PeerGone, PeerStalled
from registryd.cluster.geometry import Geometry
from registryd.cluster.peer_client import ChunkAsk
from registryd.cluster.static import StaticCluster
from registryd.cluster_ports import ClusterNode
from registryd.oci.reference import Reference
from registryd.secrets import Secret

PIECE = 256 << 10


@dataclass(frozen=True)
class Turn:
    """What a node does with one request for a chunk.

    ``does``: give, cut, stall, gone, busy, barred, denied, behind, wrong (other bytes), or a node's
    name: go there. ``checked``: it says that it has proven the chunk.
    """

    does: str = "give"
    checked: bool = False
    told: bool = False
    gate: asyncio.Event | None = None


@dataclass
class Reply:
    """The answer."""

    status: int
    here: int | None = None
    checked: bool = False
    chunk_digest: Digest | None = None
    to: str | None = None
    barred: float | None = None
    pieces: list[bytes] = field(default_factory=list)
    end: Exception | None = None
    gate: asyncio.Event | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.gate is not None:
            await self.gate.wait()
        if self.end is not None:
            raise self.end


def crooked(body: bytes) -> bytes:
    """Other bytes than these."""
    return bytes(each ^ 1 for each in body[:1]) + body[1:]


class ScriptedPeers:
    """The Client of a company; ``content`` is the one blob that all of these nodes can get."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.geometry = Geometry(len(content))
        #: What each node does next, and what it does when that is done.
        self.turns: defaultdict[str, deque[Turn]] = defaultdict(deque)
        self.always: dict[str, Turn] = {}
        #: What nodes say that chunks hash to, where it is not the truth.
        self.words: dict[str, Digest | None] = {}
        #: For how long (seconds) they say that they are barred.
        self.bar = 20.0
        #: Nodes that speak for wrong bytes, as they send them, and the chunks.
        self.crooks: set[tuple[str, int]] = set()
        self.asks: list[tuple[str, ChunkAsk]] = []
        self.asked_words: list[tuple[str, int]] = []

    def script(self, node: str, turns: Iterable[Turn]) -> None:
        """Let a node do these first."""
        self.turns[node].extend(turns)

    def chunk_hash(self, chunk: int) -> Digest:
        """The right one."""
        start, stop = self.geometry.span(chunk)
        return Digest.of(self.content[start:stop])

    @asynccontextmanager
    async def chunk(self, node: ClusterNode, ask: ChunkAsk) -> AsyncIterator[Reply]:
        self.asks.append((node.name, ask))
        await asyncio.sleep(0)
        turns = self.turns[node.name]
        turn = turns.popleft() if turns else self.always.get(node.name, Turn())
        if turn.does == "gone":
            raise PeerGone(f"peer {node.name}: gone")
        yield self._reply(turn, ask)

    def _reply(self, turn: Turn, ask: ChunkAsk) -> Reply:
        chunk = ask.start // self.geometry.chunk
        told = self.chunk_hash(chunk) if turn.told else None
        if turn.does in ("give", "cut", "stall", "wrong"):
            return self._bytes(turn, ask, told)
        if turn.does == "behind":
            return Reply(206, here=ask.start - self.geometry.span(chunk)[0])
        if turn.does == "busy":
            return Reply(503)
        if turn.does == "barred":
            return Reply(503, barred=self.bar)
        if turn.does == "denied":
            return Reply(403)
        return Reply(307, to=turn.does, chunk_digest=told)

    def _bytes(self, turn: Turn, ask: ChunkAsk, told: Digest | None) -> Reply:
        body = self.content[ask.start : ask.stop]
        end: Exception | None = None
        if turn.does == "wrong":
            body = crooked(body)
            told = None if told is None else Digest.of(body)
        elif turn.does == "cut":
            body, end = body[: len(body) // 2], PeerCut("cut")
        elif turn.does == "stall":
            body, end = body[: len(body) // 3], PeerStalled("stalled")
        pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
        length = self.geometry.length(ask.start // self.geometry.chunk)
        return Reply(206, length, turn.checked, told, None, None, pieces, end, turn.gate)

    async def chunk_digest(
        self, node: ClusterNode, repository: str, digest: Digest, chunk: int
    ) -> Digest | None:
        self.asked_words.append((node.name, chunk))
        await asyncio.sleep(0)
        if (node.name, chunk) in self.crooks:
            start, stop = self.geometry.span(chunk)
            return Digest.of(crooked(self.content[start:stop]))
        return self.words.get(node.name, self.chunk_hash(chunk))

    async def manifest(
        self, node: ClusterNode, exact: Reference, token: Secret | None
    ) -> tuple[bytes, str] | None:
        return None


class KnownHolders(StaticCluster):
    """A list of members who also know who holds the blob."""

    def __init__(self, me: str, names: Iterable[str], holders: Iterable[str] = ()) -> None:
        super().__init__(me, dict.fromkeys(names, ""))
        self.known = tuple((name, True) for name in holders)
        self.told: list[tuple[Digest, bool | None]] = []

    def holds(self, digest: Digest, *, size: int, whole: bool) -> None:
        self.told.append((digest, whole))

    def lets_go(self, digest: Digest) -> None:
        self.told.append((digest, None))

    async def holders(self, digest: Digest) -> tuple[tuple[str, bool], ...]:
        return self.known
